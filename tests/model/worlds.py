"""Pods as network plugins leave them, in the words of the plan: facts before any set-up.

Routes that the kernel itself makes of an address are left out: whoever builds the world, the model
or a real kernel, adds them.
"""

import ipaddress
from dataclasses import replace

from egress_router.plan.state import ACCOUNTING, TIMESTAMPS, Link, LinkAddress, Observed, Route
from model.environments import GATEWAY, GATEWAY_6

BOOT = 3  # RTPROT_BOOT, what `ip route add` gives
LINK_SCOPE = 253
NAMESERVER = ipaddress.ip_address("172.30.0.10")
NO_SETTINGS = tuple(
    (name, 0)
    for name in ("forwarding", "rp_filter", "arp_announce", "arp_ignore", "promote_secondaries")
)

LOOPBACK = Link(index=1, name="lo", kind=None, mtu=65536, mac="00:00:00:00:00:00")
ETH0 = Link(index=2, name="eth0", kind="veth", mac="0a:58:0a:80:00:05", inet=NO_SETTINGS)
MACVLAN0 = Link(
    index=3,
    name="macvlan0",
    kind="macvlan",
    up=False,
    mac="0a:58:c0:a8:0c:63",
    parent_index=9,
    macvlan_mode="private",
    inet=NO_SETTINGS,
)
NET1 = replace(MACVLAN0, name="net1", up=True, macvlan_mode="bridge")


def address(link: str, text: str, *, ours: bool = False) -> LinkAddress:
    """`address("eth0", "10.128.0.5/23")`."""
    return LinkAddress(link=link, interface=ipaddress.ip_interface(text), ours=ours)


def route(text: str, link: str | None, gateway: str | None = None, **more: object) -> Route:
    """A route as `ip route add` makes it; `route("default", "eth0", "10.128.0.1")`."""
    if text == "default":
        text = "::/0" if ":" in (gateway or "") else "0.0.0.0/0"
    destination = ipaddress.ip_network(text)
    four = destination.version == 4
    fields = {
        "protocol": BOOT,
        "metric": 0 if four else 1024,
        "scope": LINK_SCOPE if four and gateway is None else 0,
    }
    return Route(
        destination=destination,
        link=link,
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        **(fields | more),  # type: ignore[arg-type]
    )


def _world(
    addresses: tuple[LinkAddress, ...],
    routes: tuple[Route, ...],
    *,
    egress: Link | None = MACVLAN0,
    cluster: Link = ETH0,
) -> Observed:
    links = (LOOPBACK, cluster, *([] if egress is None else [egress]))
    sysctls = [
        ("net/ipv4/ip_unprivileged_port_start", "1024"),
        ("net/ipv6/conf/all/forwarding", "0"),
    ]
    sysctls += [(f"net/ipv6/conf/{link.name}/disable_ipv6", "0") for link in links]
    sysctls += [(ACCOUNTING, "0"), (TIMESTAMPS, "0")]
    return Observed(
        links=links,
        addresses=addresses,
        routes=routes,
        sysctls=tuple(sysctls),
        nameservers=(NAMESERVER,),
    )


BRIDGE = _world((address("eth0", "10.128.0.5/23"),), (route("default", "eth0", "10.128.0.1"),))
DUAL_STACK = _world(
    (address("eth0", "10.128.0.5/23"), address("eth0", "fd00:128::5/64")),
    (route("default", "eth0", "10.128.0.1"), route("default", "eth0", "fd00:128::1")),
)
IPV6_ONLY = _world((address("eth0", "fd00:128::5/64"),), (route("default", "eth0", "fd00:128::1"),))
CALICO = _world(
    (address("eth0", "10.128.0.5/32"),),
    (route("169.254.1.1/32", "eth0"), route("default", "eth0", "169.254.1.1")),
)
CILIUM = _world(
    (address("eth0", "10.128.0.5/32"),),
    (
        route("10.128.0.1/32", "eth0"),
        route("default", "eth0", "10.128.0.1", attributes=(("mtu", 1450),)),
    ),
)
OVN = _world(
    (address("eth0", "10.128.0.5/23"),),
    (
        route("default", "eth0", "10.128.0.1"),
        route("10.128.0.0/14", "eth0", "10.128.0.1"),
        route("172.30.0.0/16", "eth0", "10.128.0.1"),
        route("100.64.0.0/16", "eth0", "10.128.0.1"),
    ),
)
MULTUS = _world(
    (
        address("eth0", "10.128.0.5/23"),
        address("net1", "192.168.12.50/24"),
        address("net1", "2001:db8:12::50/64"),
    ),
    (route("default", "eth0", "10.128.0.1"), route("default", "net1", GATEWAY, metric=200)),
    egress=NET1,
)
BARE = _world(BRIDGE.addresses, BRIDGE.routes, egress=None)

NODE = Observed(
    links=(
        LOOPBACK,
        Link(index=5, name="uplink", kind="veth", mac="0a:58:c0:a8:0c:02"),
        Link(index=6, name="internal", kind="veth", mac="0a:58:0a:00:00:02"),
    ),
    addresses=(address("uplink", "192.168.12.2/24"), address("internal", "10.0.0.2/24")),
    routes=(route("default", "uplink", GATEWAY), route("default", "internal", GATEWAY_6)),
)
