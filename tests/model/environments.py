"""Environments of router pods, from text to configuration."""

from egress_router.config.init import InitConfig, parse_init
from egress_router.config.settings import Environment
from egress_router.errors import ConfigurationError

SOURCE, GATEWAY, SERVER = "192.168.12.99", "192.168.12.1", "203.0.113.25"
SOURCE_6, GATEWAY_6, SERVER_6 = "2001:db8:12::99", "2001:db8:12::1", "2001:db8:25::25"

PLAIN = {"EGRESS_SOURCE": f"{SOURCE}/24", "EGRESS_GATEWAY": GATEWAY, "EGRESS_DESTINATION": SERVER}
DUAL = {
    "EGRESS_SOURCE": f"{SOURCE}/24, {SOURCE_6}/64",
    "EGRESS_GATEWAY": f"{GATEWAY} {GATEWAY_6}",
    "EGRESS_DESTINATION": f"80 tcp {SERVER}\n{SERVER_6}",
}


def environment(*, hostname: str = "", **changes: str | None) -> Environment:
    """A valid environment with some variables changed; None takes one away."""
    merged = PLAIN | changes
    return Environment(
        variables={name: text for name, text in merged.items() if text is not None},
        hostname=hostname,
    )


def configure(**changes: str | None) -> InitConfig:
    """The configuration of `environment(**changes)`."""
    return parse_init(environment(**changes))


def complaints(**changes: str | None) -> list[str]:
    """Every problem of `environment(**changes)`, as it is printed; empty if there is none."""
    try:
        configure(**changes)
    except ConfigurationError as error:
        return str(error).splitlines()
    return []
