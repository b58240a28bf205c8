"""The same promise on every kind of cluster network, and with every kind of egress link."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import (
    TCP_PORTS,
    UDP_PORTS,
    expected_calls,
    router_environment,
)
from egress_router.lab.privileges import INIT_CAPABILITIES
from egress_router.lab.spec import Cni, Egress, Family, LabSpec
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

DERIVED_MAC = {4: "02:e6:c0:a8:0c:63", 6: "02:e7:07:8f:f3:e4"}  # of 192.168.12.99; a hash for IPv6


def set_up(world: Lab, **changes: str | None) -> None:
    """Runs init, with the partner listening."""
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    world.router(("init",), router_environment(world.spec, EGRESS_CONFLICT="takeover", **changes))


def assert_router_works(world: Lab) -> None:
    """Client and unbound socket reach who they should, from the source."""
    # Every third kind of line: test_redirect has them all; the network cannot tell them apart.
    calls = [
        ("client", protocol, ADDRESSES.pod.of(version), port, server)
        for version in world.spec.family.versions
        for protocol, port, server, _ in expected_calls(version)[::3]
    ]
    for version in world.spec.family.versions:
        partner = ADDRESSES.partner.of(version)
        calls.append(("pod", "tcp", partner, 80, partner))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda call: world.ask(*call[:4]), calls))
    for call, seen in zip(calls, answers, strict=True):
        assert isinstance(seen, Answer), (call, seen)
        assert (seen.source, seen.local) == (ADDRESSES.source.of(call[4].version), call[4])


def link_words(world: Lab, host: str, name: str) -> list[str]:
    """What `ip -d link` says of a link, word by word."""
    return world.run(host, ("ip", "-d", "link", "show", name)).stdout.split()


@pytest.mark.parametrize("family", [Family.DUAL, Family.V6])
@pytest.mark.parametrize("cni", Cni)
def test_every_cluster_network(lab: MakeLab, cni: Cni, family: Family) -> None:
    """The source is seen whichever network plugin wired the pod, strict filters in force."""
    world = lab(cni=cni, family=family, strict_rp_filter=True)
    set_up(world)
    assert_router_works(world)


def test_ipv4_only(lab: MakeLab) -> None:
    """A pod without IPv6 needs nothing of it."""
    world = lab(family=Family.V4, strict_rp_filter=True)
    set_up(world)
    assert_router_works(world)


def test_route_mtu_is_kept(lab: MakeLab) -> None:
    """The MTU that Cilium writes on its default route holds for answers too."""
    world = lab(cni=Cni.CILIUM)
    set_up(world)
    with world.capture("client", "eth0", "tcp[tcpflags] & tcp-syn != 0") as capture:
        assert isinstance(world.ask("client", "tcp", ADDRESSES.pod.v4, 80), Answer)
        assert "mss 1460" in capture.packets()[0]  # what the client offered
        assert "mss 1410" in capture.packets()[1]  # what it got: 1450 bytes a packet
    for version in (4, 6):
        shown = world.run("pod", ("ip", f"-{version}", "route", "show", "table", "8686")).stdout
        default = next(line for line in shown.splitlines() if line.startswith("default"))
        assert "mtu 1450" in default


@pytest.mark.parametrize("metric", [None, 50])
def test_link_with_addresses(lab: MakeLab, metric: int | None) -> None:
    """On a link that has other addresses, the source, and a default route, the source is used."""
    world = lab(egress=Egress.MULTUS, multus_default_metric=metric, strict_rp_filter=True)
    set_up(world)
    assert_router_works(world)
    for version in (4, 6):
        shown = world.run("pod", ("ip", f"-{version}", "addr", "show", "net1")).stdout
        assert str(ADDRESSES.multus.of(version)) in shown
        routes = world.run("pod", ("ip", f"-{version}", "route", "show", "default")).stdout
        first, *others = routes.splitlines()
        assert f"src {ADDRESSES.source.of(version)}" in first
        assert all(line.startswith("unreachable default") for line in others)


def test_named_link(lab: MakeLab) -> None:
    """EGRESS_INTERFACE names a link that is neither macvlan0 nor net1."""
    world = lab(strict_rp_filter=True)
    world.run("pod", ("ip", "link", "set", "macvlan0", "name", "outside7"))
    set_up(world, EGRESS_INTERFACE="outside7")
    assert_router_works(world)


@pytest.mark.parametrize(
    ("family", "asked"),
    [
        (Family.DUAL, {"EGRESS_PARENT": "ens4"}),
        (Family.DUAL, {}),
        (Family.V6, {}),
        (Family.V4, {"EGRESS_SOURCE": "192.168.12.99", "EGRESS_MAC": "02:00:00:00:12:99"}),
    ],
)
def test_link_made_by_init(lab: MakeLab, family: Family, asked: dict[str, str]) -> None:
    """Init makes the link on the node's NIC: named or found, with its MTU and a stable MAC."""
    world = lab(egress=Egress.PARENT, family=family, strict_rp_filter=True)
    for host, link in (("node", "ens4"), ("lan", "node"), ("lan", "br0"), ("gw", "eth0")):
        world.run(host, ("ip", "link", "set", link, "mtu", "1400"))
    set_up(world, EGRESS_PARENT_NETNS=f"/run/netns/{world.namespace('node')}", **asked)
    assert_router_works(world)
    words = link_words(world, "pod", "macvlan0")
    derived = DERIVED_MAC[min(family.versions)]
    assert words[words.index("link/ether") + 1] == asked.get("EGRESS_MAC", derived)
    assert words[words.index("mtu") + 1] == "1400"
    assert words[words.index("macvlan") + 2] == "private"
    assert "macvlan0" not in world.run("node", ("ip", "-o", "link")).stdout


def test_parent_by_default_route(lab: MakeLab) -> None:
    """With a gateway in no subnet of the node, the parent is the link of its default route."""
    world = lab(egress=Egress.PARENT, family=Family.V4)
    world.run("gw", ("ip", "addr", "add", "198.51.100.1/24", "dev", "eth0"))
    world.run("partner", ("ip", "route", "replace", "default", "via", "203.0.113.1"))
    namespace = f"/run/netns/{world.namespace('node')}"
    set_up(
        world,
        EGRESS_PARENT_NETNS=namespace,
        EGRESS_SOURCE="198.51.100.99/24",
        EGRESS_GATEWAY="198.51.100.1",
    )
    seen = world.ask("client", "tcp", ADDRESSES.pod.v4, 80)
    assert isinstance(seen, Answer), seen
    assert str(seen.source) == "198.51.100.99"


def test_gateway_outside_the_prefix(lab: MakeLab) -> None:
    """A source without a length is a single address; the gateway is reached on the link."""
    world = lab()
    set_up(world, EGRESS_SOURCE=f"{ADDRESSES.source.v4} {ADDRESSES.source.v6}")
    assert_router_works(world)


def test_link_local_gateway(lab: MakeLab) -> None:
    """An IPv6 gateway may be a link-local address, as routers announce themselves."""
    world = lab(spec=LabSpec(family=Family.V6))
    world.run("gw", ("ip", "addr", "add", "fe80::1/64", "dev", "eth0", "nodad"))
    set_up(world, EGRESS_GATEWAY="fe80::1")
    assert_router_works(world)


def test_reduced_privileges_are_enough(lab: MakeLab) -> None:
    """A run as root with NET_ADMIN and NET_RAW sets a dual-stack pod up like any other."""
    world = lab()
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    environment = router_environment(world.spec, EGRESS_CONFLICT="takeover")
    world.router(("init",), environment, wrap=INIT_CAPABILITIES)
    assert_router_works(world)
