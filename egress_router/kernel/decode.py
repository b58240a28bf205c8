"""pyroute2's messages become the values of `plan.state`.

Messages carry attributes by the names of linux/rtnetlink.h; nothing beyond this module sees them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from egress_router.plan.state import (
    PROTOCOL,
    Link,
    LinkAddress,
    Neighbour,
    Route,
    RouteKind,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.config.addresses import Network

VERSIONS: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 6}
METRICS = ("mtu", "advmss", "window", "rtt", "hoplimit", "initcwnd", "initrwnd", "quickack")

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_F_TENTATIVE = 0x40
_F_FAILED = 0x08
_ONLINK = 4  # RTNH_F_ONLINK
_STATIONS = {  # NUD_*, linux/neighbour.h
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x80: "permanent",
}
_KINDS = {1: RouteKind.UNICAST, 7: RouteKind.UNREACHABLE}  # RTN_*
_INET = ("forwarding", "rp_filter", "arp_announce", "arp_ignore", "promote_secondaries")


def link(message: Any) -> Link:
    """RTM_NEWLINK."""
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    families = message.get_attr("IFLA_AF_SPEC")
    inet = families.get_attr("AF_INET") if families else None
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        mtu=message.get_attr("IFLA_MTU"),
        mac=message.get_attr("IFLA_ADDRESS"),
        group=message.get_attr("IFLA_GROUP") or 0,
        parent_index=message.get_attr("IFLA_LINK"),
        parent_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
        macvlan_mode=data.get_attr("IFLA_MACVLAN_MODE") if data and kind == "macvlan" else None,
        inet=tuple((name, inet[name]) for name in _INET) if inet else (),
    )


def counters(message: Any) -> dict[str, int]:
    """The link's packet and byte counters (rtnl_link_stats64) by name."""
    stats = message.get_attr("IFLA_STATS64") or {}
    return {
        name: int(stats.get(name, 0))
        for name in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped")
    }


def address(message: Any, names: Mapping[int, str]) -> LinkAddress | None:
    """RTM_NEWADDR; None if the link has gone meanwhile."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    name = names.get(message["index"])
    if text is None or name is None:
        return None
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return LinkAddress(
        link=name,
        interface=ipaddress.ip_interface(f"{text}/{message['prefixlen']}"),
        ours=message.get_attr("IFA_PROTO") == PROTOCOL,
        tentative=bool(flags & _F_TENTATIVE),
        failed=bool(flags & _F_FAILED),
    )


def neighbour(message: Any) -> Neighbour | None:
    """RTM_NEWNEIGH; None for what is no station."""
    text, state = message.get_attr("NDA_DST"), _STATIONS.get(message["state"])
    if text is None or state is None:
        return None
    one = Neighbour(
        address=ipaddress.ip_address(text), mac=message.get_attr("NDA_LLADDR"), state=state
    )
    return dataclasses.replace(one, mac=None) if one.silent else one


def route(message: Any, names: Mapping[int, str]) -> Route:
    """RTM_NEWROUTE; several next hops or an exotic type become kind OTHER."""
    kind = _KINDS.get(message["type"], RouteKind.OTHER)
    if message.get_attr("RTA_MULTIPATH") is not None:
        kind = RouteKind.OTHER
    gateway = message.get_attr("RTA_GATEWAY")
    if (via := message.get_attr("RTA_VIA")) is not None:
        gateway = via["addr"]
    source = message.get_attr("RTA_PREFSRC")
    metrics = message.get_attr("RTA_METRICS")
    # An IPv6 unreachable route names the loopback as its link, an IPv4 one none.
    index = None if kind is RouteKind.UNREACHABLE else message.get_attr("RTA_OIF")
    return Route(
        destination=_network(message, message.get_attr("RTA_DST"), message["dst_len"]),
        table=message.get_attr("RTA_TABLE") or message["table"],
        kind=kind,
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        link=None if index is None else names.get(index),
        source=ipaddress.ip_address(source) if source else None,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        scope=message["scope"],
        protocol=message["proto"],
        onlink=bool(message["flags"] & _ONLINK),
        attributes=_metrics(metrics) if metrics else (),
    )


def rule(message: Any) -> Rule:
    """RTM_NEWRULE."""
    destination, source = message.get_attr("FRA_DST"), message.get_attr("FRA_SRC")
    ports = message.get_attr("FRA_DPORT_RANGE")
    return Rule(
        version=VERSIONS[message["family"]],
        priority=message.get_attr("FRA_PRIORITY") or 0,
        table=message.get_attr("FRA_TABLE") or message["table"],
        mark=message.get_attr("FRA_FWMARK"),
        destination=_network(message, destination, message["dst_len"]) if destination else None,
        source=_network(message, source, message["src_len"]) if source else None,
        destination_port=int(str(ports).partition(":")[0]) if ports else None,
        protocol=message.get_attr("FRA_PROTOCOL") or 0,
    )


def _network(message: Any, text: str | None, length: int) -> Network:
    if text is None:
        text = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104 (a route's destination)
    return ipaddress.ip_network(f"{text}/{length}", strict=False)


def _metrics(metrics: Any) -> tuple[tuple[str, int], ...]:
    return tuple(
        (name, value)
        for name in METRICS
        if isinstance(value := metrics.get_attr(f"RTAX_{name.upper()}"), int)
    )
