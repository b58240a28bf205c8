"""rtnetlink of one network namespace: observe it, and change it step by step (rtnetlink(7))."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from egress_router.errors import KernelError
from egress_router.kernel import decode, devconf, netns
from egress_router.kernel.rtnetlink import IPRoute, NetlinkError
from egress_router.plan.drift import render_route, render_rule
from egress_router.plan.state import (
    ACCOUNTING,
    LINK_GROUP,
    LOW_PORTS,
    MARK,
    PROTOCOL,
    TIMESTAMPS,
    Link,
    LinkAddress,
    Neighbour,
    NewLink,
    Observed,
    Route,
    RouteKind,
    Rule,
    Setting,
    Sysctl,
)

if TYPE_CHECKING:
    from types import TracebackType

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_GONE = {errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV}
_NODAD = 0x02  # IFA_F_NODAD
_PROC_SYS = Path("/proc/sys")
_WELCOME = (LOW_PORTS, ACCOUNTING, TIMESTAMPS)
_SCTP = Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")
_REMEDIES = {
    errno.EPERM: "init needs CAP_NET_ADMIN",
    errno.EOPNOTSUPP: "the node's kernel lacks this feature (module macvlan?)",
}


class Netlink:
    """A netlink socket in one namespace: the pod's own, or the one at `path`."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            self._route: Any = IPRoute()
        else:
            with netns.entered(path):
                self._route = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self._route.close()

    def observe(self) -> Observed:
        """Links, addresses, routes, rules and settings as they are; the table stays out."""
        return self.with_settings(self.observe_routing())

    def observe_routing(self) -> Observed:
        """Links, addresses, routes and rules as they are; the rest of Observed stays empty."""
        links = self.observe_links()
        names = {link.index: link.name for link in links}
        messages = [m for family in decode.VERSIONS for m in self._route.get_routes(family=family)]
        rules = [m for family in decode.VERSIONS for m in self._route.get_rules(family=family)]
        decoded = (decode.address(message, names) for message in self._route.get_addr())
        return Observed(
            links=links,
            addresses=tuple(address for address in decoded if address is not None),
            routes=tuple(decode.route(message, names) for message in messages),
            rules=tuple(decode.rule(message) for message in rules),
        )

    def with_settings(self, observed: Observed) -> Observed:
        """The same with what is read under /proc/sys."""
        names = tuple(link.name for link in observed.links)
        return dataclasses.replace(observed, sysctls=observe_sysctls(names), sctp=_SCTP.exists())

    def observe_links(self) -> tuple[Link, ...]:
        """All links of the namespace."""
        return tuple(decode.link(message) for message in self._route.get_links())

    def observe_neighbours(self, name: str) -> tuple[Neighbour, ...]:
        """The stations that the kernel knows on a link; none if there is no such link."""
        found = self._route.link_lookup(ifname=name)
        messages = self._route.get_neighbours(ifindex=found[0]) if found else ()
        return tuple(filter(None, map(decode.neighbour, messages)))

    def observe_counted_link(self, name: str) -> tuple[Link, dict[str, int]] | None:
        """A link and its packet and byte counters; None if there is no such link."""
        for message in self._route.get_links():
            if message.get_attr("IFLA_IFNAME") == name:
                return decode.link(message), decode.counters(message)
        return None

    def create_link(self, link: NewLink) -> None:
        """Makes the macvlan from the parent's namespace right into this one, down, marked as ours.

        One request does it all, so that there is no half-made link to find after a kill.
        """
        home = os.open(netns.OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink(link.netns) as parents:
                wanted = {
                    "ifname": link.name,
                    "kind": "macvlan",
                    "link": parents._index(link.parent),
                    "macvlan_mode": str(link.mode),
                    "address": link.mac,
                    "mtu": link.mtu,
                    "group": LINK_GROUP,
                    "net_ns_fd": home,
                }
                parents._call(f"make a macvlan on {link.parent}", ("link", "add"), wanted)
        finally:
            os.close(home)

    def delete_link(self, name: str) -> None:
        """Deletes a link; one that is gone already is fine."""
        self._call(f"delete link {name}", ("link", "del"), {"ifname": name}, missing_ok=True)

    def change_link(self, name: str, *, up: bool | None, mtu: int | None, mac: str | None) -> None:
        """Sets what is not None."""
        wanted: dict[str, object] = {}
        if mtu is not None:
            wanted["mtu"] = mtu
        if mac is not None:
            wanted["address"] = mac
        if up is not None:
            wanted["state"] = "up" if up else "down"
        words = " ".join(f"{key} {value}" for key, value in wanted.items())
        remedy = "its parent's MTU may be the limit" if mtu is not None else ""
        wanted["index"] = self._index(name)
        self._call(f"set link {name} {words}", ("link", "set"), wanted, remedy=remedy)

    def set_setting(self, setting: Setting) -> None:
        """Sets one per-link IPv4 setting."""
        step = f"set {setting.name}={setting.value} on {setting.link}"
        try:
            devconf.set_devconf(self._index(setting.link), setting.name, setting.value)
        except OSError as error:
            raise _refused(step, error) from error

    def add_address(self, address: LinkAddress) -> None:
        """Adds an address; an IPv6 one skips duplicate address detection, the claim did that."""
        interface = address.interface
        wanted = self._address(address)
        if interface.version == 6:
            wanted["flags"] = _NODAD
        if address.ours:
            wanted["proto"] = PROTOCOL
        self._call(f"add address {interface} to {address.link}", ("addr", "add"), wanted)

    def delete_address(self, address: LinkAddress) -> None:
        """Removes an address; one that is gone already is fine."""
        step = f"remove address {address.interface} from {address.link}"
        self._call(step, ("addr", "del"), self._address(address), missing_ok=True)

    def _address(self, address: LinkAddress) -> dict[str, object]:
        interface = address.interface
        return {
            "index": self._index(address.link),
            "address": str(interface.ip),
            "prefixlen": interface.network.prefixlen,
            "family": _FAMILIES[interface.version],
        }

    def change_route(self, command: str, route: Route) -> None:
        """`add` or `del`; deleting one that is gone already is fine."""
        wanted: dict[str, object] = {
            "family": _FAMILIES[route.version],
            "dst": str(route.destination),
            "table": route.table,
            "type": route.kind.value,
            "proto": route.protocol,
            "scope": route.scope,
            "priority": route.metric,
        }
        if route.gateway is not None and route.gateway.version == route.version:
            wanted["gateway"] = str(route.gateway)
        elif route.gateway is not None:
            wanted["via"] = {"family": _FAMILIES[6], "addr": str(route.gateway)}
        if route.source is not None:
            wanted["prefsrc"] = str(route.source)
        if route.link is not None and route.kind is RouteKind.UNICAST:
            wanted["oif"] = self._index(route.link)
        if route.onlink:
            wanted["flags"] = "onlink"
        if route.attributes:
            wanted["metrics"] = dict(route.attributes)
        verb = "add" if command == "add" else "remove"
        step = f"{verb} route {render_route(route)}"
        self._call(step, ("route", command), wanted, missing_ok=command == "del")

    def change_rule(self, command: str, rule: Rule) -> None:
        """`add` or `del`; deleting one that is gone already is fine."""
        wanted: dict[str, object] = {
            "family": _FAMILIES[rule.version],
            "table": rule.table,
            "priority": rule.priority,
            "protocol": rule.protocol,
        }
        if rule.mark is not None:
            wanted |= {"fwmark": rule.mark, "fwmask": MARK}
        if rule.destination is not None:
            wanted["dst"] = str(rule.destination.network_address)
            wanted["dst_len"] = rule.destination.prefixlen
        if rule.source is not None:
            wanted["src"] = str(rule.source.network_address)
            wanted["src_len"] = rule.source.prefixlen
        if rule.destination_port is not None:
            wanted["dport_range"] = f"{rule.destination_port}:{rule.destination_port}"
        step = f"{'add' if command == 'add' else 'remove'} rule {render_rule(rule)}"
        self._call(step, ("rule", command), wanted, missing_ok=command == "del")

    def _index(self, name: str) -> int:
        try:
            found = self._route.link_lookup(ifname=name)
        except NetlinkError:
            found = ()
        if not found:
            raise KernelError(f"look up link {name}", "there is no such link", errno=errno.ENODEV)
        return int(found[0])

    def _call(
        self,
        step: str,
        change: tuple[str, str],
        wanted: dict[str, object],
        *,
        missing_ok: bool = False,
        remedy: str = "",
    ) -> None:
        subject, command = change
        try:
            getattr(self._route, subject)(command, **wanted)
        except NetlinkError as error:
            if not (missing_ok and error.code in _GONE):
                cause = OSError(error.code, os.strerror(error.code))
                raise _refused(step, cause, remedy) from error


def observe_sysctls(links: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The values under /proc/sys that the plan may want changed; absent ones are left out.

    So are those that are welcome and not needed, where they cannot be set.
    """
    paths = ["net/ipv6/conf/all/forwarding", *(f"net/ipv6/conf/{n}/disable_ipv6" for n in links)]
    paths += [path for path in _WELCOME if os.access(_PROC_SYS / path, os.W_OK)]
    values = []
    for path in paths:
        try:
            values.append((path, (_PROC_SYS / path).read_text(encoding="ascii").strip()))
        except OSError:
            continue
    return tuple(values)


def set_sysctl(sysctl: Sysctl) -> None:
    """Writes a value under /proc/sys unless it is there already."""
    path = _PROC_SYS / sysctl.path
    step = f"set {sysctl.path.replace('/', '.')}={sysctl.value} for {sysctl.purpose}"
    try:
        if path.read_text(encoding="ascii").strip() != sysctl.value:
            path.write_text(sysctl.value, encoding="ascii")
    except FileNotFoundError as error:
        raise KernelError(
            step, "this kernel or pod has no IPv6", remedy="leave IPv6 out of EGRESS_SOURCE"
        ) from error
    except OSError as error:
        raise KernelError(
            step,
            error.strerror or str(error),
            errno=error.errno,
            remedy="/proc/sys is read-only here: give the pod this sysctl "
            "(securityContext.sysctls), or run init privileged",
        ) from error


def _refused(step: str, error: OSError, remedy: str = "") -> KernelError:
    code = error.errno or 0
    return KernelError(
        step, error.strerror or str(error), errno=code, remedy=_REMEDIES.get(code, remedy)
    )
