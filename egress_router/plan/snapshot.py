"""What a daemon makes of a pod that somebody else set up: which links, which source, what to keep.

Everything here is read from routes and addresses, which needs no privilege: init marks what it adds
with a protocol number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.plan.links import HANDED_LINK_NAMES
from egress_router.plan.ruleset import render_removal
from egress_router.plan.state import (
    CLUSTER_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    Desired,
    RouteKind,
    Setting,
)

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.plan.state import LinkAddress, Observed, Route

_KEPT_SETTINGS = ("forwarding", "rp_filter", "arp_ignore", "arp_announce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A set-up pod as its kernel shows it: links, and source and gateway by family, IPv4 first.

    `own_addresses` are those on every link, the loopback and link-local ones among them.
    """

    egress: str
    cluster: str
    sources: tuple[Address, ...]
    gateways: tuple[Address, ...]
    cluster_addresses: tuple[Address, ...]
    own_addresses: tuple[Address, ...] = ()


def find_router(observed: Observed, interface: str | None) -> Router | str:
    """The router that init set up here, or in words why there is none to be seen."""
    defaults = [route for route in observed.routes if _is_egress_default(route, interface)]
    if not defaults:
        name = interface or next(
            (name for name in HANDED_LINK_NAMES if observed.link(name)), HANDED_LINK_NAMES[0]
        )
        link = observed.link(name)
        if link is None:
            return f"there is no egress link {name}: has init run in this pod?"
        state = "" if link.up else ", and it is down"
        return f"there is no default route of ours by {name}{state}: has init run in this pod?"
    egress = defaults[0].link or ""
    cluster = next((r.link for r in observed.routes if r.table == CLUSTER_TABLE and r.link), None)
    if cluster is None:
        return f"routing table {CLUSTER_TABLE} is empty: answers to the cluster have no way"
    ordered = sorted(defaults, key=lambda route: route.version)
    return Router(
        egress=egress,
        cluster=cluster,
        sources=tuple(route.source for route in ordered if route.source),
        gateways=tuple(route.gateway for route in ordered if route.gateway),
        cluster_addresses=tuple(
            address.interface.ip
            for address in observed.addresses_on(cluster)
            if not address.interface.ip.is_link_local
        ),
        own_addresses=tuple(address.interface.ip for address in observed.addresses),
    )


def snapshot_state(observed: Observed, router: Router) -> Desired | str:
    """The observed state as the desired one, or in words what is missing from it."""
    missing = _missing(observed, router)
    if missing is not None:
        return missing
    table = observed.table
    return Desired(
        cluster=router.cluster,
        egress=router.egress,
        create=None,
        mtu=None,
        mac=None,
        settings=tuple(
            Setting(link=link.name, name=name, value=value)
            for link in observed.links
            if link.name in {router.cluster, router.egress}
            for name, value in link.inet
            if name in _KEPT_SETTINGS
        ),
        sysctls=(),
        addresses=_source_addresses(observed, router),
        routes=tuple(route for route in observed.routes if _is_kept(route)),
        rules=tuple(rule for rule in observed.rules if rule.protocol == PROTOCOL),
        table=render_removal() + table.text if table is not None else "",
    )


def _is_egress_default(route: Route, interface: str | None) -> bool:
    return (
        route.table == MAIN_TABLE
        and route.protocol == PROTOCOL
        and route.is_default
        and route.kind is RouteKind.UNICAST
        and route.source is not None
        and interface in {None, route.link}
    )


def _is_kept(route: Route) -> bool:
    return route.table == CLUSTER_TABLE or (
        route.table == MAIN_TABLE and route.protocol == PROTOCOL
    )


def _source_addresses(observed: Observed, router: Router) -> tuple[LinkAddress, ...]:
    return tuple(
        address
        for address in observed.addresses_on(router.egress)
        if address.interface.ip in router.sources
    )


def _missing(observed: Observed, router: Router) -> str | None:
    held = {address.interface.ip for address in _source_addresses(observed, router)}
    for source in router.sources:
        if source not in held:
            return f"source {source} is not on {router.egress}"
    if observed.table is None:
        return "the nftables table is not in force"
    for version in {address.version for address in router.cluster_addresses}:
        if not any(r.mark and r.version == version for r in observed.rules):
            return f"the IPv{version} rule for answers to the cluster is missing"
        barred = any(
            route.version == version and route.kind is RouteKind.UNREACHABLE
            for route in observed.routes
            if route.table == MAIN_TABLE and route.protocol == PROTOCOL
        )
        if not barred:
            return f"the IPv{version} unreachable default route is missing"
    return None
