"""From the configuration and what the kernel shows to the state that is wanted.

Routes and rules, for each family of which the cluster or the source has an address:

1. `main`: the gateway on-link and `default via GATEWAY dev EGRESS src SOURCE`, and below both an
   unreachable default. If the egress link goes, its routes go with it and nothing leaves at all.
   A family without a source has the unreachable default only.
2. Every other default route leaves `main`: that of the cluster link for our own table, next to
   copies of the link's other routes; those of third links for good.
3. Our table answers for marked packets (answers to clients), for packets from the pod's own cluster
   addresses (answers of local sockets, and the reverse-path check of what comes in, also while the
   egress link is down), for the nameservers' port 53, the API server and EGRESS_CLUSTER_CIDRS.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.init import MTU_MIN, RouterMode
from egress_router.errors import ConfigurationError, KernelError, Problem
from egress_router.plan import links
from egress_router.plan.ruleset import RulesetSpec, render_ruleset
from egress_router.plan.state import (
    ACCOUNTING,
    CLUSTER_TABLE,
    LOW_PORTS,
    MAIN_TABLE,
    MARK,
    PROTOCOL,
    RULE_PRIORITY,
    TIMESTAMPS,
    UNREACHABLE_METRIC,
    Desired,
    LinkAddress,
    NewLink,
    Observed,
    Route,
    RouteKind,
    Rule,
    Setting,
    Sysctl,
)

if TYPE_CHECKING:
    from egress_router.config.addresses import Address, Network, Source
    from egress_router.config.init import InitConfig
    from egress_router.plan.state import Link

_SCOPE_LINK = 253  # RT_SCOPE_LINK, rtnetlink(7)
_DEFAULTS = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_DNS_PORT = 53
_STEP = "compare the egress link with the configuration"


def desired_state(config: InitConfig, observed: Observed, parents: Observed | None) -> Desired:
    """The wanted state of the pod's network namespace.

    `parents` is the namespace of EGRESS_PARENT_NETNS, None where that is unset. Raises
    ConfigurationError or KernelError where the facts do not allow what was asked.
    """
    egress = links.decide_egress_name(config.link, observed)
    cluster = links.decide_cluster_link(config.link, egress, observed)
    existing = observed.link(egress)
    create = _decide_creation(config, observed, parents, egress, cluster.name)
    _check_facts(config, observed, egress)
    _check_defaults(observed)
    routes = _routes(config, observed, egress, cluster.name)
    return Desired(
        cluster=cluster.name,
        egress=egress,
        create=create,
        mtu=create.mtu if create else config.link.mtu,
        mac=create.mac if create else _wanted_mac(config, existing),
        settings=_settings(config, egress, cluster.name),
        sysctls=(*_sysctls(config, egress), *_welcome_sysctls(config, observed)),
        addresses=_addresses(config, observed, egress),
        routes=routes,
        rules=_rules(config, observed, cluster.name),
        table=render_ruleset(ruleset_spec(config, observed, egress, cluster.name)),
        takeover=config.claim.takeover,
    )


def ruleset_spec(config: InitConfig, observed: Observed, egress: str, cluster: str) -> RulesetSpec:
    """What the table's text depends on, drawn from configuration and facts."""
    return RulesetSpec(
        cluster=cluster,
        egress=egress,
        sources=tuple(source.address for source in config.identity.sources),
        destinations=config.destinations if config.mode.redirects else None,
        cluster_networks=(*cluster_networks(config), *_routed_networks(observed, cluster)),
        nameservers=observed.nameservers,
        admin_port=config.admin_port,
    )


def cluster_networks(config: InitConfig) -> tuple[Network, ...]:
    """Networks that the pod itself reaches by the cluster link because it was told so."""
    if config.service_host is None:
        return config.cluster_networks
    return (*config.cluster_networks, ipaddress.ip_network(config.service_host))


def _routed_networks(observed: Observed, cluster: str) -> tuple[Network, ...]:
    return tuple(
        route.destination
        for route in observed.routes
        if route.table == MAIN_TABLE and route.link == cluster and not route.is_default
    )


def _decide_creation(
    config: InitConfig, observed: Observed, parents: Observed | None, egress: str, cluster: str
) -> NewLink | None:
    existing = observed.link(egress)
    if existing is None:
        return links.decide_new_link(config, egress, parents or observed, cluster)
    if existing.name == cluster:
        raise KernelError(_STEP, f"{egress} is the cluster link too", remedy="attach a second link")
    seen = parents if existing.parent_elsewhere else observed
    if not (found := links.differences(existing, config.link, seen)):
        return None
    if links.is_own(existing):
        return links.decide_new_link(config, egress, parents or observed, cluster)
    raise KernelError(
        _STEP,
        f"link {egress} is not the one asked for: {'; '.join(found)}",
        remedy="correct the variable or the pod's network attachment",
    )


def _wanted_mac(config: InitConfig, existing: Link | None) -> str | None:
    if config.link.mac is None and existing is not None and links.is_own(existing):
        return links.derive_mac(config.identity)
    return config.link.mac


def _check_facts(config: InitConfig, observed: Observed, egress: str) -> None:
    problems = [
        Problem(
            variable=variables.SOURCE.name,
            message=f"EGRESS_SOURCE unspecified or invalid: '{held.interface.ip}' is already on "
            f"{held.link}: expected an address that nothing else uses",
        )
        for source in config.identity.sources
        for held in observed.addresses
        if held.interface.ip == source.address and held.link != egress
    ]
    if observed.table is not None and not observed.table.ours:
        raise KernelError(
            "look at the nftables tables",
            "a table `inet egress_router` is there that this program did not make",
            remedy="remove or rename it",
        )
    link = observed.link(egress)
    if config.identity.source(6) is not None and link is not None and link.mtu < MTU_MIN:
        problems.append(
            Problem(
                variable=variables.MTU.name,
                message=f"link {egress} has MTU {link.mtu}: IPv6 needs at least {MTU_MIN}",
            )
        )
    needs_sctp = [rule for rule in config.destinations.rules if rule.protocol == "sctp"]
    if needs_sctp and not observed.sctp:
        problems.append(
            Problem(
                variable=variables.DESTINATION.name,
                line=needs_sctp[0].line,
                message=f"EGRESS_DESTINATION value '{needs_sctp[0].text}' is invalid: this kernel "
                "does not track sctp; expected tcp or udp",
            )
        )
    if problems:
        raise ConfigurationError(tuple(problems))


def _check_defaults(observed: Observed) -> None:
    for route in observed.routes:
        if route.table == MAIN_TABLE and route.is_default and route.kind is RouteKind.OTHER:
            raise KernelError(
                "move the default route",
                f"the IPv{route.version} default route of this pod has several next hops or a type "
                "that cannot be moved",
                remedy="give the cluster link one plain default route",
            )


def _settings(config: InitConfig, egress: str, cluster: str) -> tuple[Setting, ...]:
    if config.identity.source(4) is None:
        return ()
    settings = [
        Setting(link=egress, name="arp_ignore", value=1),  # the pod's other addresses are not the
        Setting(link=egress, name="arp_announce", value=2),  # outside network's business
        # A source that goes must not take other addresses of its subnet along.
        Setting(link=egress, name="promote_secondaries", value=1),
    ]
    for link in (cluster, egress):
        settings.append(Setting(link=link, name="rp_filter", value=2))
        if config.mode.redirects:
            settings.append(Setting(link=link, name="forwarding", value=1))
    return tuple(settings)


def _welcome_sysctls(config: InitConfig, observed: Observed) -> tuple[Sysctl, ...]:
    """What is of use and not needed: set where it can be, left to the pod's spec elsewhere."""
    welcome = []
    if config.mode is RouterMode.DNS_PROXY:
        welcome.append((LOW_PORTS, "0", "ports below 1024 without capabilities"))
    if config.mode is not RouterMode.HTTP_PROXY:  # whose connections the kernel never carries
        welcome.append((ACCOUNTING, "1", "bytes in the connection log"))
        welcome.append((TIMESTAMPS, "1", "times in the connection log"))
    possible = dict(observed.sysctls)
    return tuple(
        Sysctl(path=path, value=value, purpose=purpose)
        for path, value, purpose in welcome
        if path in possible
    )


def _sysctls(config: InitConfig, egress: str) -> tuple[Sysctl, ...]:
    if config.identity.source(6) is None:
        return ()
    sysctls = [
        Sysctl(
            path=f"net/ipv6/conf/{egress}/disable_ipv6",
            value="0",
            purpose="IPv6 on the egress link",
        )
    ]
    if config.mode.redirects:
        sysctls.append(
            Sysctl(
                path="net/ipv6/conf/all/forwarding",
                value="1",
                purpose="redirecting IPv6 connections",
            )
        )
    return tuple(sysctls)


def _addresses(config: InitConfig, observed: Observed, egress: str) -> tuple[LinkAddress, ...]:
    return tuple(_address(source, observed, egress) for source in config.identity.sources)


def _address(source: Source, observed: Observed, egress: str) -> LinkAddress:
    """The source as it shall stand on the link; one that others put there keeps its length."""
    held = [a for a in observed.addresses_on(egress) if a.interface.ip == source.address]
    exact = [a for a in held if a.interface == source.interface]
    foreign = [a for a in held if not a.ours and not source.explicit_length]
    if exact or foreign:
        return (exact or foreign)[0]
    return LinkAddress(link=egress, interface=source.interface, ours=True)


def _routes(config: InitConfig, observed: Observed, egress: str, cluster: str) -> tuple[Route, ...]:
    routes: list[Route] = []
    for version in (4, 6):
        source, gateway = config.identity.source(version), config.identity.gateway(version)
        moved = _cluster_routes(observed, cluster, version)
        if source is None and not moved:
            continue
        routes.append(
            Route(
                destination=_DEFAULTS[version],
                kind=RouteKind.UNREACHABLE,
                metric=UNREACHABLE_METRIC,
            )
        )
        if source is not None and gateway is not None:
            routes.extend(_egress_routes(source.address, gateway, egress))
        routes.extend(moved)
    return tuple(routes)


def _egress_routes(source: Address, gateway: Address, egress: str) -> tuple[Route, ...]:
    version = source.version
    metric = 0 if version == 4 else 1024  # what the kernel itself gives (IP6_RT_PRIO_USER)
    on_link = Route(
        destination=ipaddress.ip_network(gateway),
        link=egress,
        source=source,
        metric=metric,
        scope=_SCOPE_LINK if version == 4 else 0,
    )
    default = Route(
        destination=_DEFAULTS[version], gateway=gateway, link=egress, source=source, metric=metric
    )
    # A link-local gateway is on-link by itself, and its /128 would shadow the cluster link's.
    return (default,) if gateway.is_link_local else (on_link, default)


def _cluster_routes(observed: Observed, cluster: str, version: int) -> tuple[Route, ...]:
    """The cluster link's routes as our table holds them; the link-scope ones first."""
    of_link = [
        route
        for route in observed.routes
        if route.link == cluster and route.version == version and route.kind is RouteKind.UNICAST
    ]
    in_main = [route for route in of_link if route.table == MAIN_TABLE]
    defaults = [route for route in in_main if route.is_default] or [
        route for route in of_link if route.table == CLUSTER_TABLE and route.is_default
    ]
    others = [
        route
        for route in in_main
        if not route.is_default
        and not (route.version == 6 and route.destination.is_link_local)
        and not route.destination.is_multicast
    ]
    unique = {
        (route.destination, route.metric, route.gateway): _copy(route)
        for route in (*others, *defaults)
    }
    return tuple(
        sorted(unique.values(), key=lambda r: (r.gateway is not None, -r.destination.prefixlen))
    )


def _copy(route: Route) -> Route:
    return Route(
        destination=route.destination,
        table=CLUSTER_TABLE,
        gateway=route.gateway,
        link=route.link,
        source=route.source,
        metric=route.metric,
        scope=route.scope,
        protocol=PROTOCOL,
        onlink=route.onlink,
        attributes=route.attributes,
    )


def _rules(config: InitConfig, observed: Observed, cluster: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    # An address may stand there twice, with two prefix lengths; a rule may not.
    own = dict.fromkeys(
        address.interface.ip
        for address in observed.addresses_on(cluster)
        if not address.interface.ip.is_link_local
    )
    for version in (4, 6):
        if not any(address.version == version for address in own):
            continue
        rules.append(Rule(version=version, priority=RULE_PRIORITY, mark=MARK))
        rules.extend(
            Rule(version=version, priority=RULE_PRIORITY + 1, destination=network)
            for network in dict.fromkeys(cluster_networks(config))
            if network.version == version
        )
        rules.extend(
            Rule(
                version=version,
                priority=RULE_PRIORITY + 1,
                destination=ipaddress.ip_network(server),
                destination_port=_DNS_PORT,
            )
            for server in dict.fromkeys(observed.nameservers)
            if server.version == version and not server.is_loopback
        )
        rules.extend(
            Rule(
                version=version,
                priority=RULE_PRIORITY + 2,
                source=ipaddress.ip_network(address),
            )
            for address in own
            if address.version == version
        )
    return tuple(rules)
