import pytest

from egress_router.config.daemon import DaemonConfig, LogConfig, parse_daemon, parse_log
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError


def test_defaults() -> None:
    """Without any variable a daemon logs at info, and has no port of its own."""
    assert parse_daemon(Environment(variables={})) == DaemonConfig(
        log=LogConfig(format=None, level="info"),
        admin_port=None,
        watch_s=2.0,
        reload_s=10.0,
        interface=None,
        workers=None,
    )


def test_everything_set() -> None:
    """Each setting reaches its field."""
    variables = {
        "EGRESS_LOG_FORMAT": "json",
        "EGRESS_LOG_LEVEL": "warning",
        "EGRESS_ADMIN_PORT": "9099",
        "EGRESS_WATCH_SECONDS": "0.5",
        "EGRESS_RELOAD_SECONDS": "3",
        "EGRESS_INTERFACE": "net1",
        "EGRESS_WORKERS": "3",
        "EGRESS_CONNECTION_LOG": "sampled:100",
    }
    assert parse_daemon(Environment(variables=variables)) == DaemonConfig(
        log=LogConfig(format="json", level="warning"),
        admin_port=9099,
        watch_s=0.5,
        reload_s=3.0,
        interface="net1",
        workers=3,
        record_every=100,
    )


def test_all_problems_at_once() -> None:
    """Every wrong setting is reported in one run."""
    names = (
        "EGRESS_LOG_FORMAT",
        "EGRESS_LOG_LEVEL",
        "EGRESS_ADMIN_PORT",
        "EGRESS_WATCH_SECONDS",
        "EGRESS_RELOAD_SECONDS",
        "EGRESS_INTERFACE",
        "EGRESS_WORKERS",
        "EGRESS_CONNECTION_LOG",
    )
    with pytest.raises(ConfigurationError) as caught:
        parse_daemon(Environment(variables=dict.fromkeys(names, "a/b")))
    assert sorted(problem.variable for problem in caught.value.problems) == sorted(names)


@pytest.mark.parametrize("text", ["0", "65", "-1", "02", "1.5", "AUTO", "all"])
def test_workers_are_auto_or_a_count(text: str) -> None:
    """`auto` or 1 to 64; anything else is refused with what was expected."""
    assert parse_daemon(Environment(variables={"EGRESS_WORKERS": "auto"})).workers is None
    with pytest.raises(ConfigurationError, match="expected `auto` or a whole number from 1 to 64"):
        parse_daemon(Environment(variables={"EGRESS_WORKERS": text}))


@pytest.mark.parametrize("text", ["1", "0", "no", "anything"])
def test_debug_is_any_text(text: str) -> None:
    """EGRESS_ROUTER_DEBUG is on with any text, as it was, whatever the level says."""
    variables = {"EGRESS_ROUTER_DEBUG": text, "EGRESS_LOG_LEVEL": "error"}
    assert parse_log(Environment(variables=variables), []).level == "debug"


@pytest.mark.parametrize(
    ("text", "every"),
    [("", 1), ("full", 1), ("off", 0), ("sampled:2", 2), ("sampled:1000000", 1_000_000)],
)
def test_connection_log(text: str, every: int) -> None:
    """Full is the default; one in N, or none."""
    variables = {"EGRESS_CONNECTION_LOG": text}
    assert parse_daemon(Environment(variables=variables)).record_every == every


@pytest.mark.parametrize(
    "text",
    ["on", "Full", "sampled", "sampled:", "sampled:1", "sampled:010", "sampled:1000001", "off:2"],
)
def test_wrong_connection_log(text: str) -> None:
    """Anything else is refused with the three forms."""
    with pytest.raises(ConfigurationError, match="expected full, off or sampled:N"):
        parse_daemon(Environment(variables={"EGRESS_CONNECTION_LOG": text}))


def test_mistyped_variables_are_warnings() -> None:
    """A name close to one of ours is told of, and stops nothing."""
    (warning,) = parse_daemon(Environment(variables={"EGRESS_ADMINPORT": "9090"})).warnings
    assert "did you mean EGRESS_ADMIN_PORT?" in warning
