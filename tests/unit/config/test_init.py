import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress_router.config.init import ClaimConfig, LinkConfig, RouterMode, parse_init
from egress_router.config.settings import Environment
from egress_router.config.variables import VARIABLES
from egress_router.errors import ConfigurationError, Problem
from model.environments import GATEWAY, SERVER, SOURCE, complaints, configure, environment

NAMES = [variable.name for variable in VARIABLES if "init" in variable.programs]


def test_defaults() -> None:
    """Source, gateway and destination are all that a router needs."""
    config = configure()
    assert config.mode is RouterMode.INIT
    assert config.link == LinkConfig(
        egress=None, cluster=None, parent=None, parent_netns=None, mode=None, mtu=None, mac=None
    )
    assert config.claim == ClaimConfig(takeover=False, timeout_s=30.0, probe_s=0.2)
    assert config.cluster_networks == ()
    assert config.service_host is None
    assert config.admin_port is None
    assert config.warnings == ()


def test_everything_set() -> None:
    """Each variable reaches its field."""
    config = configure(
        EGRESS_ROUTER_MODE="legacy",
        EGRESS_INTERFACE="net1",
        EGRESS_CLUSTER_INTERFACE="eth0",
        EGRESS_PARENT="ens3",
        EGRESS_PARENT_NETNS="/host/ns/net",
        EGRESS_MACVLAN_MODE="bridge",
        EGRESS_MTU="1400",
        EGRESS_MAC="02:00:00:00:00:01",
        EGRESS_CONFLICT="takeover",
        EGRESS_CONFLICT_TIMEOUT="0",
        EGRESS_PROBE_SECONDS="0.1",
        EGRESS_CLUSTER_CIDRS="10.0.0.0/8, fd00::/8\n172.30.0.1",
        KUBERNETES_SERVICE_HOST="172.30.0.1",
        EGRESS_ADMIN_PORT="9099",
        EGRESS_LOG_FORMAT="text",
        EGRESS_LOG_LEVEL="error",
    )
    assert config.mode is RouterMode.LEGACY
    assert config.link == LinkConfig(
        egress="net1",
        cluster="eth0",
        parent="ens3",
        parent_netns="/host/ns/net",
        mode="bridge",
        mtu=1400,
        mac="02:00:00:00:00:01",
    )
    assert config.claim == ClaimConfig(takeover=True, timeout_s=0.0, probe_s=0.1)
    assert [str(n) for n in config.cluster_networks] == ["10.0.0.0/8", "fd00::/8", "172.30.0.1/32"]
    assert config.service_host == ipaddress.ip_address("172.30.0.1")
    assert config.admin_port == 9099
    assert (config.log.format, config.log.level) == ("text", "error")


@pytest.mark.parametrize(
    ("mode", "redirects"),
    [
        ("init", True),
        ("legacy", True),
        ("unit-test", True),
        ("http-proxy", False),
        ("dns-proxy", False),
    ],
)
def test_modes(mode: str, redirects: bool) -> None:
    """Every mode of the originals is known; the proxy modes need no destination."""
    assert configure(EGRESS_ROUTER_MODE=mode).mode.redirects is redirects
    found = complaints(EGRESS_ROUTER_MODE=mode, EGRESS_DESTINATION=None)
    assert bool(found) is redirects


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("bogus", id="B1-15-unknown"),
        pytest.param("INIT", id="B1-15-case"),
        pytest.param("Http-Proxy", id="B1-15-case-2"),
        pytest.param("http-proxy dns-proxy", id="two"),
    ],
)
def test_unknown_mode(text: str) -> None:
    """A mode that is none is refused in the originals' words."""
    (found,) = complaints(EGRESS_ROUTER_MODE=text)
    assert f"Unrecognized EGRESS_ROUTER_MODE '{text}'" in found


@pytest.mark.parametrize("name", ["EGRESS_DESTINATION", "EGRESS_DESTINATION_FILE"])
def test_unused_destination(name: str) -> None:
    """B1-15: a redirect list in a proxy mode is a warning, and is not even read."""
    config = configure(
        **{"EGRESS_DESTINATION": None} | {name: "/no/such/file"}, EGRESS_ROUTER_MODE="http-proxy"
    )
    assert config.destinations.rules == ()
    assert config.warnings == (
        f"{name} is not used: EGRESS_ROUTER_MODE=http-proxy redirects nothing",
    )


def test_unknown_variable_is_a_warning() -> None:
    """A misspelled variable does not stop the router."""
    (warning,) = configure(EGRESS_MACVLAN_MOD="bridge").warnings
    assert "did you mean EGRESS_MACVLAN_MODE?" in warning


def test_destination_file() -> None:
    """The list may come from a file; both at once are refused."""
    variables = {
        "EGRESS_SOURCE": SOURCE,
        "EGRESS_GATEWAY": GATEWAY,
        "EGRESS_DESTINATION_FILE": "/etc/egress",
    }
    config = parse_init(Environment(variables=variables, files={"/etc/egress": f"{SERVER}\n"}))
    assert [str(fallback.address) for fallback in config.destinations.fallbacks] == [SERVER]
    (both,) = complaints(EGRESS_DESTINATION_FILE="/etc/egress")
    assert "both EGRESS_DESTINATION and EGRESS_DESTINATION_FILE are set; expected one" in both


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("EGRESS_INTERFACE", "a b", "expected a link name"),
        ("EGRESS_INTERFACE", "lo", "cannot be the egress link"),
        ("EGRESS_CLUSTER_INTERFACE", "eth0/x", "expected a link name"),
        ("EGRESS_PARENT", "waytoolonganame0", "expected a link name"),
        ("EGRESS_MACVLAN_MODE", "source", "expected one of private, vepa, bridge, passthru"),
        ("EGRESS_MTU", "1279", "from 1280 to 65535"),
        ("EGRESS_MAC", "02:e6", "expected a unicast MAC address"),
        ("EGRESS_CONFLICT", "fight", "expected one of wait, takeover"),
        ("EGRESS_CONFLICT_TIMEOUT", "-1", "expected seconds from 0 to 86400"),
        ("EGRESS_PROBE_SECONDS", "0", "expected seconds from 0.1 to 60"),
        ("EGRESS_CLUSTER_CIDRS", "10.0.0.1/8", "'10.0.0.1/8' is invalid: expected NETWORK/LEN"),
        ("EGRESS_CLUSTER_CIDRS", "0.0.0.0/0", "is every address"),
        ("EGRESS_CLUSTER_CIDRS", "::/0", "is every address"),
        ("EGRESS_CLUSTER_CIDRS", "10.0.0.0/8 cluster", "'cluster' is invalid"),
        ("EGRESS_CLUSTER_CIDRS", "fe80::%x}y/64", "'fe80::%x}y/64' is invalid"),
        ("EGRESS_CLUSTER_CIDRS", "::ffff:10.0.0.0/104", "IPv4-mapped"),
        ("EGRESS_ADMIN_PORT", "0", "expected a port from 1 to 65535"),
        ("EGRESS_LOG_LEVEL", "verbose", "expected one of debug, info, warning, error"),
        ("EGRESS_LOG_FORMAT", "xml", "expected one of json, text"),
    ],
)
def test_bad_setting(name: str, text: str, message: str) -> None:
    """Every wrong setting is reported with its variable, its text and what was expected."""
    (found,) = complaints(**{name: text})
    assert found.startswith(f"{name}: ")
    assert message in found


def test_links_must_differ() -> None:
    """One link cannot be both the cluster's and the egress link."""
    (found,) = complaints(EGRESS_INTERFACE="net1", EGRESS_CLUSTER_INTERFACE="net1")
    assert "cannot be the egress link" in found


@pytest.mark.parametrize("text", ["kubernetes.default.svc", "", "::ffff:10.0.0.1", "fe80::1%eth0"])
def test_service_host_that_is_no_address(text: str) -> None:
    """Kubernetes sets KUBERNETES_SERVICE_HOST; what is no address there is no one's mistake."""
    assert configure(KUBERNETES_SERVICE_HOST=text).service_host is None


def test_all_problems_at_once() -> None:
    """Every variable that is wrong is named in one error."""
    wrong = dict.fromkeys(
        (name for name in NAMES if not name.endswith(("_FILE", "_NETNS", "_DEBUG", "_HOST"))),
        "x y/z",
    )
    with pytest.raises(ConfigurationError) as caught:
        parse_init(Environment(variables=wrong))
    assert {problem.variable for problem in caught.value.problems} == set(wrong)


@given(st.dictionaries(st.sampled_from(NAMES), st.text() | st.text("0123456789./-:, \ttcpud\n")))
@example({"EGRESS_SOURCE": ",", "EGRESS_GATEWAY": ",", "EGRESS_DESTINATION": "\n"})
def test_any_text_is_a_configuration_or_the_one_error(changes: dict[str, str]) -> None:
    """Whatever the variables hold, the answer is a configuration or all problems, printable."""
    problems: tuple[Problem, ...] = ()
    try:
        config = parse_init(environment(**changes))
    except ConfigurationError as error:
        problems = error.problems
    else:
        assert config.identity.sources
        assert len(config.identity.sources) == len(config.identity.gateways)
        redirects = config.destinations.rules or config.destinations.fallbacks
        assert bool(redirects) is config.mode.redirects
        return
    assert problems
    assert all(str(problem).isprintable() for problem in problems)
    assert all(problem.variable in NAMES for problem in problems)
