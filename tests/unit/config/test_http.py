"""The HTTP proxy's settings."""

from __future__ import annotations

import pytest

from egress_router.config import variables
from egress_router.config.http import check_http, parse_http
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError

LIST = "EGRESS_HTTP_PROXY_DESTINATION"


def test_the_list_alone_is_a_configuration() -> None:
    """As in the originals' pod specs: everything else has a default."""
    config = parse_http(Environment(variables={LIST: "!www.example.com\n*"}))
    assert [rule.text for rule in config.rules.rules] == ["!www.example.com", "*"]
    assert config.port == 8080
    assert (config.limits.connections, config.limits.head_bytes, config.limits.fields) == (
        None,
        65536,
        100,
    )
    times = config.times
    assert (times.head_s, times.body_s, times.tunnel_s) == (15, 60, 3600)
    assert (times.dial_s, times.drain_s) == (10, 25)


def test_the_list_may_stand_in_a_file() -> None:
    """Its problems then name the variable of the file, and its lines."""
    variables_ = {f"{LIST}_FILE": "/etc/list"}
    config = parse_http(Environment(variables=variables_, files={"/etc/list": "example.com\n"}))
    assert config.rules.rules[0].value == "example.com"
    with pytest.raises(ConfigurationError, match=rf"{LIST}_FILE line 2: Bad destination"):
        parse_http(Environment(variables=variables_, files={"/etc/list": "*.a.test\nb_ad/x\n"}))
    with pytest.raises(ConfigurationError, match=r"both .* are set"):
        parse_http(Environment(variables={**variables_, LIST: "*"}))
    with pytest.raises(ConfigurationError, match="cannot be read: not found"):
        parse_http(Environment(variables=variables_, unreadable={"/etc/list": "not found"}))


@pytest.mark.parametrize(
    "variable",
    [
        variable
        for variable in variables.VARIABLES
        if variable.programs[0] == "http"
        and variable.name.endswith(("_SECONDS", "_LIMIT", "_PORT"))
    ],
    ids=lambda variable: variable.name,
)
@pytest.mark.parametrize("text", ["x", "-1", "1e3", "99999999999"])
def test_a_wrong_number_is_named(variable: variables.Variable, text: str) -> None:
    """With its variable, and together with all other problems."""
    with pytest.raises(ConfigurationError) as caught:
        parse_http(Environment(variables={variable.name: text}))
    named = [problem.variable for problem in caught.value.problems]
    assert named == [LIST, variable.name]


def test_the_original_message_of_an_empty_list() -> None:
    """No list is the original's message."""
    with pytest.raises(ConfigurationError, match="No EGRESS_HTTP_PROXY_DESTINATION specified"):
        parse_http(Environment(variables={}))


def test_a_check_tells_rules_and_warnings() -> None:
    """A person reads port, rules by line, what holds otherwise, and what looks wrong."""
    checked = check_http(Environment(variables={LIST: "!10.0.0.1/8\n# note\n*.example.com:443"}))
    assert checked.text.splitlines() == [
        "port         8080",
        "line 1       deny 10.0.0.1/8",
        "line 3       allow *.example.com:443",
        "otherwise    deny",
        f"warning      {checked.warnings[0]}",
    ]
    assert "taken as 10.0.0.0/8" in checked.warnings[0]
    assert list(checked.document) == ["rules", "default"]
