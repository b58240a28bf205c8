"""Router pods as the doctor's probes find them: a healthy one, and what to change in it."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from egress_router.diagnosis.facts import (
    Attempt,
    Daemon,
    Facts,
    GatewayProbe,
    NameserverProbe,
    Namespace,
    Place,
    SizeProbe,
    Target,
)
from egress_router.plan.snapshot import Router
from egress_router.plan.state import Link, LinkAddress, Neighbour, Observed

SOURCE, SOURCE6 = IPv4Address("192.168.12.99"), IPv6Address("2001:db8:12::99")
GATEWAY, GATEWAY6 = IPv4Address("192.168.12.1"), IPv6Address("2001:db8:12::1")
SERVER, SECOND = IPv4Address("172.30.0.10"), IPv4Address("172.30.0.11")
PARTNER = IPv4Address("203.0.113.25")
SETTINGS = (("forwarding", 1), ("rp_filter", 2))
MAC = "02:e6:c0:a8:0c:63"

EGRESS = Link(index=3, name="macvlan0", kind="macvlan", mac=MAC, inet=SETTINGS)
CLUSTER = Link(index=2, name="eth0", kind="veth", mac="0a:58:0a:80:00:05", inet=SETTINGS)
PLACE = Place(
    link="macvlan0", cluster="eth0", sources=(SOURCE, SOURCE6), gateways=(GATEWAY, GATEWAY6)
)
ROUTER = Router(
    egress="macvlan0",
    cluster="eth0",
    sources=PLACE.sources,
    gateways=PLACE.gateways,
    cluster_addresses=(IPv4Address("10.128.0.5"),),
)
SPACE = Namespace(
    observed=Observed(
        links=(Link(index=1, name="lo"), CLUSTER, EGRESS),
        addresses=(
            LinkAddress(link="macvlan0", interface=ip_interface("192.168.12.99/24")),
            LinkAddress(link="macvlan0", interface=ip_interface("2001:db8:12::99/64")),
        ),
    ),
    router=ROUTER,
    missing=None,
    table=True,
    leaves=((4, SOURCE), (6, SOURCE6)),
    forwarding6=True,
)


def gateway(how: str | None = "by ARP", **more: Any) -> GatewayProbe:
    """The first gateway."""
    state, mac = ("reachable", "02:00:00:00:00:01") if how else ("failed", None)
    fields = {
        "neighbour": Neighbour(address=GATEWAY, mac=mac, state=state),
        "how": how,
        "heard": 100,
        "others": 0,
    }
    return GatewayProbe(**(fields | more))


def nameserver(answer: str | None = "NOERROR", **more: Any) -> NameserverProbe:
    """The first nameserver."""
    fields = {"server": SERVER, "name": "www.partner.test", "answer": answer, "took_s": 0.004}
    return NameserverProbe(**(fields | more))


def target(*outcomes: str, **more: Any) -> Target:
    """One destination, with as many addresses as outcomes."""
    attempts = tuple(
        Attempt(address=PARTNER + number, source=SOURCE, outcome=outcome, took_s=0.004)
        for number, outcome in enumerate(outcomes)
    )
    return Target(text="www.partner.test:443", attempts=attempts, **more)


HEALTHY = Facts(
    place=PLACE,
    namespace=SPACE,
    daemons=(Daemon(mode="redirect", ready=True, forwards=True),),
    holders=(),
    gateways=(gateway(),),
    sizes=(SizeProbe(gateway=GATEWAY, size_bytes=1500, passed=True),),
    nameservers=(nameserver(), nameserver(server=SECOND)),
    targets=(target("connected"),),
)


def changed(**changes: Any) -> Facts:
    """The healthy pod with other facts."""
    return dataclasses.replace(HEALTHY, **changes)


def in_space(**changes: Any) -> Facts:
    """The healthy pod with something else in its kernel; `egress`, `cluster`: fields of a link."""
    observed = SPACE.observed
    for name, link in (("egress", EGRESS), ("cluster", CLUSTER)):
        if name in changes:
            fields = changes.pop(name)
            links = tuple(
                dataclasses.replace(one, **fields) if one.name == link.name else one
                for one in observed.links
                if not (one.name == link.name and fields is None)
            )
            observed = dataclasses.replace(observed, links=links)
    if "addresses" in changes:
        observed = dataclasses.replace(observed, addresses=changes.pop("addresses"))
    return changed(namespace=dataclasses.replace(SPACE, observed=observed, **changes))
