"""The settings of DNS mode."""

import pytest

from egress_router.config.daemon import parse_daemon
from egress_router.config.dns import Datapath, check_dns, parse_dns
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError

LIST = "EGRESS_DNS_PROXY_DESTINATION"


def environment(**variables: str) -> Environment:
    """A working environment, with some variables on top."""
    return Environment(variables={LIST: "80 example.com", **variables})


def test_the_originals_environment_is_enough() -> None:
    """The list alone makes a forwarder, in userspace, with an hour of idle time and no checks."""
    config = parse_dns(environment())
    assert config.datapath is Datapath.USERSPACE
    assert config.connections is None
    assert (config.times.idle_s, config.times.dial_s, config.times.drain_s) == (3600, 10, 25)
    assert config.times.check_of(kernel=False) == 0
    assert config.times.check_of(kernel=True) == 5


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("EGRESS_DNS_PROXY_DATAPATH", "ebpf"),
        ("EGRESS_DNS_PROXY_IDLE_SECONDS", "0"),
        ("EGRESS_DNS_PROXY_DIAL_SECONDS", "-1"),
        ("EGRESS_DNS_PROXY_CHECK_SECONDS", "2s"),
        ("EGRESS_DNS_PROXY_CONNECTION_LIMIT", "0"),
        ("EGRESS_DRAIN_SECONDS", "forever"),
    ],
)
def test_a_bad_setting_is_named_beside_a_bad_list(variable: str, text: str) -> None:
    """Every problem of the environment is told in one run."""
    with pytest.raises(ConfigurationError) as raised:
        parse_dns(environment(**{variable: text, LIST: "80 www"}))
    named = {problem.variable for problem in raised.value.problems}
    assert named == {variable, LIST}


def test_a_list_comes_from_a_variable_or_a_file() -> None:
    """A file's problems carry the file's variable; both at once is an error."""
    name = "EGRESS_DNS_PROXY_DESTINATION_FILE"
    wanted = Environment(variables={name: "/list"}, files={"/list": "80 www"})
    with pytest.raises(ConfigurationError, match=f"{name} line 1: Bad destination '80 www'"):
        parse_dns(wanted)
    both = Environment(variables={LIST: "80 a.b", name: "/list"}, files={"/list": "80 a.b"})
    with pytest.raises(ConfigurationError, match="both"):
        parse_dns(both)


@pytest.mark.parametrize("datapath", ["kernel", "auto"])
def test_udp_needs_a_data_path_that_carries_it(datapath: str) -> None:
    """A udp line is accepted as soon as the kernel may carry it."""
    config = parse_dns(environment(**{LIST: "53 udp a.b", "EGRESS_DNS_PROXY_DATAPATH": datapath}))
    assert config.destinations[0].protocol == "udp"


def test_checks_may_be_turned_off_in_the_kernels_path() -> None:
    """A written 0 means never, on either path."""
    times = parse_dns(environment(EGRESS_DNS_PROXY_CHECK_SECONDS="0")).times
    assert times.check_of(kernel=True) == 0


def test_debug_turns_the_log_up() -> None:
    """The originals' debug variable shows each connection, which are debug and info lines."""
    assert parse_daemon(environment(EGRESS_DNS_PROXY_DEBUG="1")).log.level == "debug"
    assert parse_daemon(environment()).log.level == "info"


def test_check_tells_a_person_what_each_line_does() -> None:
    """The text has data path, line, port and target."""
    text = check_dns(environment(**{LIST: "# x\n8443 example.com 443"})).text
    assert "userspace" in text
    assert "line 2       tcp 8443 to example.com port 443" in text
