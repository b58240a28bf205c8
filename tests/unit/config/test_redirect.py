"""What the redirect daemon reads of the list of destinations."""

import pytest

from egress_router.config.redirect import list_entries, parse_redirect, parse_redirect_reload
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError

TOLD = {"EGRESS_SOURCE": "192.0.2.7", "EGRESS_GATEWAY": "192.0.2.1"}


def environment(text: str, **variables: str) -> Environment:
    """An environment whose list is a file."""
    return Environment(
        variables={"EGRESS_DESTINATION_FILE": "/list", **variables}, files={"/list": text}
    )


def test_a_wrong_file_does_not_keep_a_daemon_from_its_watch() -> None:
    """Without init's variables the list is init's business at the start, and told at a reload."""
    wrong = environment("80 tcp nobody\n")
    assert parse_redirect(wrong).destinations.rules == ()
    with pytest.raises(ConfigurationError, match="nobody"):
        parse_redirect_reload(wrong)


def test_with_inits_variables_it_is_a_mistake_either_way() -> None:
    """The problem is told once, in init's words."""
    for parse in (parse_redirect, parse_redirect_reload):
        with pytest.raises(ConfigurationError) as caught:
            parse(environment("80 tcp nobody\n", **TOLD))
        assert len(caught.value.problems) == 1


def test_destinations_in_words() -> None:
    """Every form of a line has a key and a target."""
    text = "80 tcp 203.0.113.1 8080\n90-92 udp 203.0.113.2\n203.0.113.3\n"
    config = parse_redirect_reload(environment(text, **TOLD))
    assert config.init is not None
    assert config.destinations == config.init.destinations
    assert [(e.what, e.target, e.line) for e in list_entries(config.destinations)] == [
        ("tcp port 80 (IPv4)", "203.0.113.1 port 8080", 1),
        ("udp ports 90-92 (IPv4)", "203.0.113.2", 2),
        ("everything else (IPv4)", "203.0.113.3", 3),
    ]
