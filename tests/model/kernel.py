"""Two kernels without a kernel: one that does as it is told, and one that minds as Linux does.

`PlainKernel` carries out steps and has no will of its own: what a step says is what happens.
`FakeKernel` refuses what the kernel refuses and does what it does of its own accord:

1. A link that goes down loses its IPv4 routes and its IPv6 addresses and routes; one that goes up
   has connected routes again. A link that is deleted takes all of its own along.
2. An address gives a connected route. The first IPv4 address of a subnet is its primary; the
   others are secondaries and go with it, unless the link promotes them.
3. An IPv4 address that goes takes the routes that prefer it along; an IPv6 one leaves them without.
4. A route needs a link that is up, a gateway that is on-link, a source that is there, and a place:
   one per destination, metric and table.
"""

import dataclasses
import errno
import ipaddress
import os
from collections.abc import Iterable

from egress_router.errors import AddressConflictError, KernelError
from egress_router.plan import diff
from egress_router.plan.ruleset import ruleset_digest
from egress_router.plan.state import (
    LINK_GROUP,
    MAIN_TABLE,
    Link,
    LinkAddress,
    Observed,
    Route,
    RouteKind,
    Rule,
    Table,
)

KERNEL = 2  # RTPROT_KERNEL
SEAL = "# sealed\n"  # what the real one marks a table with; here a word of the listing
_LINK_SCOPE = 253


class PlainKernel:
    """Holds a state, and does what each step says. `parents`: where new links are made."""

    def __init__(self, observed: Observed, *, parents: Observed | None = None) -> None:
        self._parents = parents or observed
        self.links = list(observed.links)
        self.addresses = list(observed.addresses)
        self.routes = list(observed.routes)
        self.rules = list(observed.rules)
        self.table = observed.table
        self.sysctls = dict(observed.sysctls)
        self._rest = observed

    def observe(self) -> Observed:
        """The state as it is."""
        return dataclasses.replace(
            self._rest,
            links=tuple(self.links),
            addresses=tuple(self.addresses),
            routes=tuple(self.routes),
            rules=tuple(self.rules),
            table=self.table,
            sysctls=tuple(self.sysctls.items()),
        )

    def check(self, ruleset: str) -> None:
        """Any ruleset of ours will do."""
        assert ruleset_digest(ruleset)

    def apply(self, step: diff.Step) -> None:  # noqa: C901, PLR0912 (one case per kind of step)
        """Carries out one step."""
        match step:
            case diff.LoadTable():
                self._load(step)
            case diff.CreateLink():
                self._create(step)
            case diff.DeleteLink(name=name):
                self._delete_link(name)
            case diff.ChangeLink():
                self._change(step)
            case diff.Claim():
                self._claim(step)
            case diff.SetSetting(setting=setting):
                link = self._link(setting.link)
                values = dict(link.inet) | {setting.name: setting.value}
                self._replace(link, inet=tuple(values.items()))
            case diff.SetSysctl(sysctl=sysctl):
                self.sysctls[sysctl.path] = sysctl.value
            case diff.AddAddress(address=address):
                self._add_address(address)
            case diff.DeleteAddress(address=address):
                self._delete_address(address)
            case diff.AddRoute(route=route):
                self._add_route(route)
            case diff.DeleteRoute(route=route):
                self._delete_route(route)
            case diff.AddRule(rule=rule):
                self._add_rule(rule)
            case diff.DeleteRule(rule=rule):
                self.rules = [held for held in self.rules if held != rule]

    def _load(self, step: diff.LoadTable) -> None:
        if step.text is None or "{" not in step.text:
            self.table = None
            return
        # What the real one lists is not what was loaded; here it may be, and is easy to look at.
        text = step.text[step.text.rindex("table inet egress_router {") :]
        text += SEAL if step.seal else ""
        self.table = Table(
            ours=True, digest=ruleset_digest(text), intact=step.seal or SEAL in text, text=text
        )

    def _create(self, step: diff.CreateLink) -> None:
        new = step.link
        parent = self._parents.link(new.parent)
        if parent is None:
            raise refusal(f"look up link {new.parent}", errno.ENODEV)
        self.links.append(
            Link(
                index=max(link.index for link in self.links) + 1,
                name=new.name,
                kind="macvlan",
                up=False,
                mtu=new.mtu,
                mac=new.mac,
                group=LINK_GROUP,
                parent_index=parent.index,
                parent_elsewhere=new.netns is not None,
                macvlan_mode=new.mode,
                inet=tuple((name, 0) for name, _ in self.links[-1].inet),
            )
        )
        self.sysctls.setdefault(f"net/ipv6/conf/{new.name}/disable_ipv6", "0")

    def _delete_link(self, name: str) -> None:
        self.links = [link for link in self.links if link.name != name]
        self.addresses = [address for address in self.addresses if address.link != name]
        self.routes = [route for route in self.routes if route.link != name]
        self.sysctls.pop(f"net/ipv6/conf/{name}/disable_ipv6", None)

    def _change(self, step: diff.ChangeLink) -> None:
        wanted = {"up": step.up, "mtu": step.mtu, "mac": step.mac}
        self._replace(self._link(step.name), **{k: v for k, v in wanted.items() if v is not None})

    def _claim(self, step: diff.Claim) -> None:
        """Nobody holds anything."""

    def _add_address(self, address: LinkAddress) -> None:
        self.addresses.append(address)

    def _delete_address(self, address: LinkAddress) -> None:
        self.addresses = [
            held
            for held in self.addresses
            if (held.link, held.interface) != (address.link, address.interface)
        ]

    def _add_route(self, route: Route) -> None:
        self.routes.append(route)

    def _delete_route(self, route: Route) -> None:
        self.routes = [held for held in self.routes if held != route]

    def _add_rule(self, rule: Rule) -> None:
        self.rules.append(rule)

    def _link(self, name: str | None) -> Link:
        for link in self.links:
            if link.name == name:
                return link
        raise refusal(f"look up link {name}", errno.ENODEV)

    def _replace(self, link: Link, **changes: object) -> None:
        self.links[self.links.index(link)] = dataclasses.replace(link, **changes)  # type: ignore[arg-type]


class FakeKernel(PlainKernel):
    """Minds as Linux does; `held`: addresses that another station has."""

    def __init__(
        self,
        observed: Observed,
        *,
        parents: Observed | None = None,
        held: Iterable[object] = (),
    ) -> None:
        super().__init__(
            dataclasses.replace(observed, addresses=(), routes=()), parents=parents or observed
        )
        self.held = frozenset(held)
        for address in observed.addresses:
            self._add_address(address)
        for route in observed.routes:
            self._add_route(route)

    def _create(self, step: diff.CreateLink) -> None:
        if any(link.name == step.link.name for link in self.links):
            raise refusal(f"make link {step.link.name}", errno.EEXIST)
        super()._create(step)

    def _change(self, step: diff.ChangeLink) -> None:
        before = self._link(step.name)
        super()._change(step)
        if step.up is True and not before.up:
            for address in self.addresses:
                if address.link == step.name:
                    self._connect(address)
        if step.up is False:
            self.routes = [route for route in self.routes if route.link != step.name]
            self.addresses = [
                a for a in self.addresses if a.link != step.name or a.interface.version == 4
            ]

    def _claim(self, step: diff.Claim) -> None:
        if not self._link(step.link).up:
            raise refusal(f"speak on {step.link}", errno.ENETDOWN)
        for address in step.addresses:
            if address in self.held:
                raise AddressConflictError(address, "02:00:00:00:00:99", "stop it")

    def _add_address(self, address: LinkAddress) -> None:
        self._link(address.link)
        same = [a for a in self.addresses if a.link == address.link]
        four = address.interface.version == 4
        if any(
            a.interface == address.interface
            or (not four and a.interface.ip == address.interface.ip)
            for a in same
        ):
            raise refusal(f"add address {address.interface}", errno.EEXIST)
        self.addresses.append(address)
        if self._link(address.link).up:
            self._connect(address)

    def _delete_address(self, address: LinkAddress) -> None:
        gone = [
            a for a in self.addresses if (a.link, a.interface) == (address.link, address.interface)
        ]
        if not gone:
            return
        promotes = self._link(address.link).setting("promote_secondaries")
        if not self._is_secondary(gone[0]) and not promotes:
            gone += [
                a
                for a in self.addresses
                if a.link == address.link
                and a.interface.version == 4
                and a.interface.network == address.interface.network
                and a.interface != address.interface
            ]
        for held in gone:
            self.addresses.remove(held)
        for held in gone:
            self._disconnect(held)
        for heir in self.addresses:
            if heir.link == address.link and heir.interface.network == address.interface.network:
                self._connect(heir)
                break

    def _disconnect(self, address: LinkAddress) -> None:
        """What an address that went leaves of the routes."""
        ip, network = address.interface.ip, address.interface.network
        self.routes = [
            route
            for route in self.routes
            if not (
                route.protocol == KERNEL
                and route.link == address.link
                and route.destination == network
                and (ip.version == 6 or route.source == ip)
            )
        ]
        if any(other.interface.ip == ip for other in self.addresses):
            return
        if ip.version == 4:
            self.routes = [route for route in self.routes if route.source != ip]
            return
        self.routes = [
            dataclasses.replace(route, source=None) if route.source == ip else route
            for route in self.routes
        ]

    def _is_secondary(self, address: LinkAddress) -> bool:
        if address.interface.version == 6:
            return True
        for other in self.addresses:
            if other.link == address.link and other.interface.network == address.interface.network:
                return other != address
        return False

    def _connect(self, address: LinkAddress) -> None:
        """The route that the kernel makes of an address."""
        interface = address.interface
        four = interface.version == 4
        if four and (interface.network.prefixlen == 32 or self._is_secondary(address)):
            return
        route = Route(
            destination=interface.network,
            link=address.link,
            source=interface.ip if four else None,
            metric=0 if four else 256,
            scope=_LINK_SCOPE if four else 0,
            protocol=KERNEL,
        )
        if route not in self.routes:
            self.routes.append(route)

    def _add_route(self, route: Route) -> None:
        what = f"add route {route.destination}"
        if any(_place(held) == _place(route) for held in self.routes):
            raise refusal(what, errno.EEXIST)
        if route.link is not None:
            if not self._link(route.link).up:
                raise refusal(what, errno.ENETDOWN)
            if route.gateway is not None and not route.onlink and not self._reaches(route):
                code = errno.ENETUNREACH if route.version == 4 else errno.EHOSTUNREACH
                raise refusal(what, code)
        if route.source is not None and all(a.interface.ip != route.source for a in self.addresses):
            raise refusal(what, errno.EINVAL)
        self.routes.append(route)

    def _reaches(self, route: Route) -> bool:
        gateway = route.gateway
        assert gateway is not None
        if gateway.version == 6 and gateway.is_link_local:
            return True
        return any(
            held.gateway is None
            and held.kind is RouteKind.UNICAST
            and held.link == route.link
            and held.table in {route.table, MAIN_TABLE}
            and gateway.version == held.version
            and gateway in held.destination
            for held in self.routes
        )

    def _delete_route(self, route: Route) -> None:
        if route.version == 6:  # what it prefers is not compared
            route = dataclasses.replace(route, source=None)
            self.routes = [r for r in self.routes if dataclasses.replace(r, source=None) != route]
            return
        super()._delete_route(route)

    def _add_rule(self, rule: Rule) -> None:
        if rule in self.rules:
            raise refusal("add rule", errno.EEXIST)
        super()._add_rule(rule)


def refusal(step: str, code: int) -> KernelError:
    """What a kernel answers."""
    return KernelError(step, os.strerror(code), errno=code)


def normal(observed: Observed) -> Observed:
    """A state without what is no business of ours: numbers, the loopback, link-local addresses."""
    foreign = ipaddress.ip_network("fe80::/10"), ipaddress.ip_network("ff00::/8")
    links = [
        dataclasses.replace(link, index=0, parent_index=None, parent_elsewhere=False, carrier=True)
        for link in observed.links
        if link.name != "lo"
    ]
    addresses = [
        a for a in observed.addresses if a.link != "lo" and not a.interface.ip.is_link_local
    ]
    routes = [
        route
        for route in observed.routes
        if route.table != 255
        and route.link != "lo"
        and not (route.version == 6 and any(route.destination.subnet_of(f) for f in foreign))
    ]
    table = observed.table and dataclasses.replace(observed.table, text="")
    return Observed(
        links=tuple(sorted(links, key=str)),
        addresses=tuple(sorted(addresses, key=str)),
        routes=tuple(sorted(routes, key=str)),
        rules=tuple(sorted((r for r in observed.rules if r.protocol != KERNEL), key=str)),
        table=table,
        sysctls=tuple(sorted(s for s in observed.sysctls if "/lo/" not in s[0])),
    )


def _place(route: Route) -> tuple[object, ...]:
    return (route.table, route.destination, route.metric)
