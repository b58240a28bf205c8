"""The steps that turn an observed state into the desired one, in the order that fails closed.

1. The table comes first: its filters are in force before a link is up or a packet forwarded.
2. The egress link is made or corrected, brought up, and the source claimed on it before it is set.
3. Per-link settings, then our routing table and the rules that lead to it.
4. In `main` the unreachable default comes first, then old defaults go, and new ones come last.
   Between the two, nothing leaves.
5. In that time stale addresses go, before new ones come. Routes that prefer a stale address go
   before it and come again after it, for the kernel would take them along unasked.
6. Every step knows its inverse, given what was observed before it; undone in reverse order, no
   inverse needs what is not there yet: routes by a gateway go first and come last.

An empty diff means that the kernel shows exactly what is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from egress_router.plan.ruleset import render_removal, ruleset_digest
from egress_router.plan.state import (
    CLUSTER_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RouteKind,
)

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.plan.state import (
        Desired,
        Link,
        LinkAddress,
        NewLink,
        Observed,
        Route,
        Rule,
        Setting,
        Sysctl,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTable:
    """Replaces the table by `text`; None removes it.

    `seal`: mark what is loaded as intact. Not so for a listing that is put back as it was, which
    has its seal in it, or has none, or one that somebody has broken.
    """

    text: str | None
    seal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateLink:
    """Makes a macvlan and hands it to this namespace, down, under its final name."""

    link: NewLink


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLink:
    """Deletes a link that we made."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLink:
    """Sets attributes of a link; None leaves one as it is."""

    name: str
    up: bool | None = None
    mtu: int | None = None
    mac: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Asks the outside network whether anybody holds the addresses; stops the run if so."""

    link: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSetting:
    """Sets one per-link IPv4 setting."""

    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSysctl:
    """Writes one value under /proc/sys."""

    sysctl: Sysctl


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAddress:
    """Adds an address that has been claimed, so IPv6 need not detect duplicates again."""

    address: LinkAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAddress:
    """Removes an address."""

    address: LinkAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRoute:
    """Adds a route."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRoute:
    """Removes a route."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRule:
    """Adds a policy rule."""

    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRule:
    """Removes a policy rule."""

    rule: Rule


Step = (
    LoadTable
    | CreateLink
    | DeleteLink
    | ChangeLink
    | Claim
    | SetSetting
    | SetSysctl
    | AddAddress
    | DeleteAddress
    | AddRoute
    | DeleteRoute
    | AddRule
    | DeleteRule
)


def diff_state(observed: Observed, desired: Desired) -> tuple[Step, ...]:
    """The steps from what is to what is wanted; empty if nothing is to be done."""
    link = observed.link(desired.egress)
    recreate = link is not None and desired.create is not None
    if recreate:
        observed = _without_link(observed, desired.egress)
    return (
        *table_steps(observed, desired),
        *([DeleteLink(name=desired.egress)] if recreate else []),
        *_link_steps(None if recreate else link, desired),
        *_claim_steps(observed, desired),
        *_setting_steps(observed, desired),
        *_cluster_steps(observed, desired),
        *_closing_steps(observed, desired),
        *_address_steps(observed, desired),
        *_opening_steps(observed, desired),
    )


def inverse(step: Step, observed: Observed) -> Step | None:
    """The step that undoes another, given the state before it; None if there is nothing to undo."""
    match step:
        case LoadTable():
            table = observed.table
            text = render_removal() + table.text if table else None
            return LoadTable(text=text, seal=False)
        case CreateLink(link=link):
            return DeleteLink(name=link.name)
        case ChangeLink(name=name):
            return _old_link(step, observed.link(name))
        case SetSetting(setting=setting):
            holder = observed.link(setting.link)
            old = holder.setting(setting.name) if holder else None
            return None if old is None else SetSetting(setting=replace(setting, value=old))
        case SetSysctl(sysctl=sysctl):
            value = dict(observed.sysctls).get(sysctl.path)
            return None if value is None else SetSysctl(sysctl=replace(sysctl, value=value))
        case AddAddress(address=address):
            return DeleteAddress(address=address)
        case DeleteAddress(address=address):
            return AddAddress(address=address)
        case AddRoute(route=route):
            return DeleteRoute(route=route)
        case DeleteRoute(route=route):
            return AddRoute(route=route)
        case AddRule(rule=rule):
            return DeleteRule(rule=rule)
        case DeleteRule(rule=rule):
            return AddRule(rule=rule)
        case _:
            return None


def is_managed(route: Route) -> bool:
    """Whether a route is ours to remove: our table, our protocol, or any default in main."""
    if route.table == CLUSTER_TABLE:
        return True
    return route.table == MAIN_TABLE and (route.protocol == PROTOCOL or route.is_default)


def _without_link(observed: Observed, name: str) -> Observed:
    return replace(
        observed,
        links=tuple(link for link in observed.links if link.name != name),
        addresses=tuple(address for address in observed.addresses if address.link != name),
        routes=tuple(route for route in observed.routes if route.link != name),
    )


def table_steps(observed: Observed, desired: Desired) -> list[Step]:
    """What the table alone needs: nothing, or to be loaded."""
    table = observed.table
    if table is not None and table.intact and table.digest == ruleset_digest(desired.table):
        return []
    return [LoadTable(text=desired.table)]


def _link_steps(link: Link | None, desired: Desired) -> list[Step]:
    name = desired.egress
    steps: list[Step] = []
    if link is None:
        if desired.create is None:
            return []
        steps = [CreateLink(link=desired.create)]
    else:
        mtu = desired.mtu if desired.mtu != link.mtu else None
        mac = desired.mac if desired.mac != link.mac else None
        if mtu is not None or mac is not None:
            steps.append(ChangeLink(name=name, mtu=mtu, mac=mac))
    if link is None or not link.up:
        steps.append(ChangeLink(name=name, up=True))
    return steps


def _setting_steps(observed: Observed, desired: Desired) -> list[Step]:
    steps: list[Step] = []
    for setting in desired.settings:
        link = observed.link(setting.link)
        if link is None or link.setting(setting.name) != setting.value:
            steps.append(SetSetting(setting=setting))
    values = dict(observed.sysctls)
    steps.extend(
        SetSysctl(sysctl=sysctl)
        for sysctl in desired.sysctls
        if values.get(sysctl.path) != sysctl.value
    )
    return steps


def _cluster_steps(observed: Observed, desired: Desired) -> list[Step]:
    """Our table and the rules; stale rules go last, so that no answer is without a way between."""
    wanted = [route for route in desired.routes if route.table == CLUSTER_TABLE]
    present = [route for route in observed.routes if route.table == CLUSTER_TABLE]
    stale = [route for route in present if route not in wanted]
    steps: list[Step] = [DeleteRoute(route=route) for route in _gateways_first(stale)]
    steps.extend(AddRoute(route=route) for route in wanted if route not in present)
    own = [rule for rule in observed.rules if rule.protocol == PROTOCOL]
    steps.extend(AddRule(rule=rule) for rule in desired.rules if rule not in own)
    steps.extend(DeleteRule(rule=rule) for rule in own if rule not in desired.rules)
    return steps


def _claim_steps(observed: Observed, desired: Desired) -> list[Step]:
    held = {address.interface.ip for address in observed.addresses_on(desired.egress)}
    wanted = tuple(address.interface.ip for address in desired.addresses)
    unclaimed = tuple(address for address in wanted if address not in held)
    if desired.takeover or not unclaimed:
        return []
    return [Claim(link=desired.egress, addresses=unclaimed)]


def _address_steps(observed: Observed, desired: Desired) -> list[Step]:
    present = observed.addresses_on(desired.egress)
    missing = [
        address
        for address in desired.addresses
        if all(held.interface != address.interface for held in present)
    ]
    steps: list[Step] = [
        DeleteAddress(address=address) for address in _stale_addresses(observed, desired)
    ]
    steps.extend(AddAddress(address=address) for address in missing)
    return steps


def _stale_addresses(observed: Observed, desired: Desired) -> list[LinkAddress]:
    wanted = {address.interface for address in desired.addresses}
    sources = {address.interface.ip for address in desired.addresses}
    return [
        address
        for address in observed.addresses
        if (address.ours and (address.link != desired.egress or address.interface not in wanted))
        or (
            address.link == desired.egress
            and address.interface.ip in sources
            and address.interface not in wanted
        )
    ]


def _closing_steps(observed: Observed, desired: Desired) -> list[Step]:
    wanted = [route for route in desired.routes if route.table == MAIN_TABLE]
    kept = _kept_routes(observed, desired)
    present = [route for route in observed.routes if _is_managed_in_main(route)]
    stale = [route for route in present if route not in kept]
    return [
        *(
            AddRoute(route=route)
            for route in wanted
            if route.kind is RouteKind.UNREACHABLE and route not in present
        ),
        *(DeleteRoute(route=route) for route in _gateways_first(stale)),
    ]


def _opening_steps(observed: Observed, desired: Desired) -> list[Step]:
    kept = _kept_routes(observed, desired)
    return [
        AddRoute(route=route)
        for route in desired.routes
        if route.table == MAIN_TABLE
        and route.kind is not RouteKind.UNREACHABLE
        and route not in kept
    ]


def _kept_routes(observed: Observed, desired: Desired) -> list[Route]:
    """The wanted routes of `main` that are there and prefer no address that is about to go."""
    lost = {address.interface.ip for address in _stale_addresses(observed, desired)}
    return [
        route
        for route in observed.routes
        if _is_managed_in_main(route) and route in desired.routes and route.source not in lost
    ]


def _is_managed_in_main(route: Route) -> bool:
    return route.table == MAIN_TABLE and is_managed(route)


def _gateways_first(routes: list[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: route.gateway is None)


def _old_link(step: ChangeLink, link: Link | None) -> Step | None:
    if link is None:
        return None  # made in this run: its deletion undoes everything about it
    return ChangeLink(
        name=step.name,
        up=None if step.up is None else link.up,
        mtu=None if step.mtu is None else link.mtu,
        mac=None if step.mac is None else link.mac,
    )
