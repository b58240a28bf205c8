"""The init program's configuration: everything the environment says about one router pod."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.addresses import (
    Address,
    Network,
    parse_address,
    split_words,
)
from egress_router.config.daemon import LogConfig, parse_log
from egress_router.config.destinations import Destinations, parse_destinations
from egress_router.config.identity import Identity, parse_identity
from egress_router.config.settings import (
    read_choice,
    read_count,
    read_link_name,
    read_mac,
    read_port,
    read_seconds,
)
from egress_router.config.text import Problems, quote
from egress_router.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.config.variables import Variable

MTU_MIN, MTU_MAX = 1280, 65535  # 1280: the least that IPv6 lives with (RFC 8200 §5)


class RouterMode(enum.StrEnum):
    """The values of EGRESS_ROUTER_MODE."""

    INIT = "init"
    LEGACY = "legacy"
    HTTP_PROXY = "http-proxy"
    DNS_PROXY = "dns-proxy"
    UNIT_TEST = "unit-test"

    @property
    def redirects(self) -> bool:
        """Whether this mode loads redirect NAT and so needs EGRESS_DESTINATION."""
        return self in {RouterMode.INIT, RouterMode.LEGACY, RouterMode.UNIT_TEST}


class MacvlanMode(enum.StrEnum):
    """The macvlan modes that make sense for a pod (ip-link(8))."""

    PRIVATE = "private"
    VEPA = "vepa"
    BRIDGE = "bridge"
    PASSTHRU = "passthru"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What was asked of the two links; None: not asked, so found out or left alone."""

    egress: str | None
    cluster: str | None
    parent: str | None
    parent_netns: str | None
    mode: MacvlanMode | None
    mtu: int | None
    mac: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimConfig:
    """How the source address is claimed. `takeover`: without asking whether somebody has it."""

    takeover: bool
    timeout_s: float
    probe_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """One router pod, validated as far as text alone can be."""

    mode: RouterMode
    identity: Identity
    destinations: Destinations
    link: LinkConfig
    claim: ClaimConfig
    cluster_networks: tuple[Network, ...]
    service_host: Address | None
    admin_port: int | None
    log: LogConfig
    warnings: tuple[str, ...]


def parse_init(environment: Environment) -> InitConfig:
    """The environment to the router it describes; raises ConfigurationError with every problem."""
    found: list[Problem] = []

    def problems(variable: Variable) -> Problems:
        return Problems(variable.name, found)

    mode = _parse_mode(environment, problems(variables.ROUTER_MODE))
    identity = parse_identity(environment, found)
    destinations = Destinations()
    if mode.redirects:
        wrong = problems(variables.DESTINATION)
        before = len(found)
        text = environment.text(variables.DESTINATION, variables.DESTINATION_FILE, wrong)
        if len(found) == before:
            destinations = parse_destinations(text, identity, wrong)
    config = InitConfig(
        mode=mode,
        identity=identity,
        destinations=destinations,
        link=_parse_link(environment, found),
        claim=_parse_claim(environment, found),
        cluster_networks=_parse_networks(environment, problems(variables.CLUSTER_CIDRS)),
        service_host=_parse_service_host(environment),
        admin_port=read_port(environment, variables.ADMIN_PORT, problems(variables.ADMIN_PORT)),
        log=parse_log(environment, found),
        warnings=_warnings(environment, mode),
    )
    if found:
        raise ConfigurationError(tuple(found))
    return config


def _parse_mode(environment: Environment, problems: Problems) -> RouterMode:
    text = environment.get(variables.ROUTER_MODE) or RouterMode.INIT
    if text in tuple(RouterMode):
        return RouterMode(text)
    problems.add(
        f"Unrecognized EGRESS_ROUTER_MODE {quote(text)}: expected one of {', '.join(RouterMode)}"
    )
    return RouterMode.INIT


def _parse_link(environment: Environment, found: list[Problem]) -> LinkConfig:
    def name(variable: Variable) -> str | None:
        return read_link_name(environment, variable, Problems(variable.name, found))

    mode = read_choice(
        environment,
        variables.MACVLAN_MODE,
        Problems(variables.MACVLAN_MODE.name, found),
        tuple(MacvlanMode),
    )
    mtu = Problems(variables.MTU.name, found)
    config = LinkConfig(
        egress=name(variables.INTERFACE),
        cluster=name(variables.CLUSTER_INTERFACE),
        parent=name(variables.PARENT),
        parent_netns=environment.get(variables.PARENT_NETNS),
        mode=MacvlanMode(mode) if mode else None,
        mtu=read_count(environment, variables.MTU, mtu, low=MTU_MIN, high=MTU_MAX),
        mac=read_mac(environment, variables.MAC, Problems(variables.MAC.name, found)),
    )
    if config.egress is not None and config.egress in {config.cluster, "lo"}:
        Problems(variables.INTERFACE.name, found).add(
            f"{quote(config.egress)} cannot be the egress link: expected another than the cluster "
            "link and the loopback"
        )
    return config


def _parse_claim(environment: Environment, found: list[Problem]) -> ClaimConfig:
    conflict = read_choice(
        environment,
        variables.CONFLICT,
        Problems(variables.CONFLICT.name, found),
        ("wait", "takeover"),
    )
    timeout, probe = variables.CONFLICT_TIMEOUT, variables.PROBE
    return ClaimConfig(
        takeover=conflict == "takeover",
        timeout_s=read_seconds(
            environment, timeout, Problems(timeout.name, found), low=0, high=86_400
        ),
        probe_s=read_seconds(environment, probe, Problems(probe.name, found), low=0.1, high=60),
    )


def _parse_networks(environment: Environment, problems: Problems) -> tuple[Network, ...]:
    networks = []
    for word in split_words(environment.get(variables.CLUSTER_CIDRS)):
        address = parse_address(word.partition("/")[0])
        if isinstance(address, str):
            problems.add(f"{quote(word)} is invalid: {address}, or NETWORK/LEN")
            continue
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            problems.add(f"{quote(word)} is invalid: expected NETWORK/LEN ({error})")
    for network in networks:
        if network.prefixlen == 0:
            problems.add(f"{quote(str(network))} is every address: expected the cluster's networks")
    return tuple(networks)


def _parse_service_host(environment: Environment) -> Address | None:
    # Kubernetes writes it, not the operator; a host name there is no address to route to.
    address = parse_address(environment.get(variables.SERVICE_HOST) or "")
    return None if isinstance(address, str) else address


def _warnings(environment: Environment, mode: RouterMode) -> tuple[str, ...]:
    warnings = list(variables.unknown_variables(environment.variables))
    if not mode.redirects:
        warnings.extend(
            f"{variable.name} is not used: {variables.ROUTER_MODE.name}={mode} redirects nothing"
            for variable in (variables.DESTINATION, variables.DESTINATION_FILE)
            if environment.is_set(variable)
        )
    return tuple(warnings)
