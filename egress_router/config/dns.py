"""The DNS mode's settings: its destinations, data path, limits and times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.check import Checked
from egress_router.config.dns_destination import (
    DnsDestination,
    parse_dns_destinations,
    render_dns_check,
)
from egress_router.config.settings import read_choice, read_count, read_port, read_seconds
from egress_router.config.text import Problems
from egress_router.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.config.variables import Variable

DAY_S = 86_400
KERNEL_CHECK_S = 5.0  # in the kernel's path nothing else tells that an address is dead


class Datapath(StrEnum):
    """Who carries the bytes. `auto`: the kernel where the daemon has the capability for it."""

    USERSPACE = "userspace"
    KERNEL = "kernel"
    AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsTimes:
    """Seconds; the variables' table says what each bounds. `check_s` None: not set, 0: never."""

    idle_s: float
    dial_s: float
    drain_s: float
    check_s: float | None

    def check_of(self, *, kernel: bool) -> float:
        """How often each address is checked on that path; 0: never."""
        if self.check_s is not None:
            return self.check_s
        return KERNEL_CHECK_S if kernel else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """One forwarder, validated as far as text alone can be.

    `connections` None: as many as the limit of descriptors allows.
    """

    destinations: tuple[DnsDestination, ...]
    datapath: Datapath
    connections: int | None
    times: DnsTimes


def parse_dns(environment: Environment) -> DnsConfig:
    """The environment to the forwarder it describes; ConfigurationError has every problem."""
    found: list[Problem] = []
    choice = read_choice(
        environment,
        variables.DNS_DATAPATH,
        Problems(variables.DNS_DATAPATH.name, found),
        tuple(Datapath),
    )
    limit = variables.DNS_CONNECTION_LIMIT
    connections = read_count(environment, limit, Problems(limit.name, found), low=1, high=1_000_000)
    times = _parse_times(environment, found)
    destinations = _parse_destinations(environment, found, udp=choice != Datapath.USERSPACE)
    if found:
        raise ConfigurationError(tuple(found))
    return DnsConfig(
        destinations=destinations,
        datapath=Datapath(choice or Datapath.USERSPACE),
        connections=connections,
        times=times,
    )


def check_dns(environment: Environment) -> Checked:
    """What the forwarder would do: its listeners as an object, and in words."""
    config = parse_dns(environment)
    lines = [f"data path    {config.datapath}"]
    lines += [
        f"line {one.line:<7} {one.protocol} {one.port} to {one.host} port {one.target_port}"
        for one in config.destinations
    ]
    return Checked(document=render_dns_check(config.destinations), text="\n".join([*lines, ""]))


def _parse_destinations(
    environment: Environment, found: list[Problem], *, udp: bool
) -> tuple[DnsDestination, ...]:
    problems = Problems(variables.DNS_DESTINATION.name, found)
    before = len(found)
    text = environment.text(variables.DNS_DESTINATION, variables.DNS_DESTINATION_FILE, problems)
    if len(found) > before:
        return ()
    # The daemon's own settings report a wrong admin port.
    admin_port = read_port(environment, variables.ADMIN_PORT, Problems(variables.ADMIN_PORT.name))
    from_file = environment.is_set(variables.DNS_DESTINATION_FILE)
    named = variables.DNS_DESTINATION_FILE if from_file else variables.DNS_DESTINATION
    try:
        return parse_dns_destinations(text, variable=named.name, admin_port=admin_port, udp=udp)
    except ConfigurationError as error:
        found.extend(error.problems)
        return ()


def _parse_times(environment: Environment, found: list[Problem]) -> DnsTimes:
    def seconds(variable: Variable, low: float, high: float = DAY_S) -> float:
        problems = Problems(variable.name, found)
        return read_seconds(environment, variable, problems, low=low, high=high)

    wanted = environment.is_set(variables.DNS_CHECK_SECONDS)
    return DnsTimes(
        idle_s=seconds(variables.DNS_IDLE_SECONDS, 1),
        dial_s=seconds(variables.DNS_DIAL_SECONDS, 0.1),
        drain_s=seconds(variables.DRAIN, 0),
        check_s=seconds(variables.DNS_CHECK_SECONDS, 0) if wanted else None,
    )
