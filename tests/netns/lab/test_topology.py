"""Every kind of world: who reaches whom before any router is set up."""

from collections.abc import Callable

import pytest

from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.spec import Cni, Egress, Family, Host
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns


def routes(world: Lab, version: int) -> set[str]:
    """The pod's main table, without spacing."""
    listed = world.run("pod", ("ip", f"-{version}", "route")).stdout
    return {" ".join(line.split()) for line in listed.splitlines()}


def ping(world: Lab, host: Host, address: Address) -> None:
    """One echo request; raises if it is not answered."""
    world.run(host, ("ping", "-n", "-c", "1", "-W", "2", str(address)))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("cni", Cni)
def test_bare_world(lab: MakeLab, cni: Cni, family: Family) -> None:
    """Client and pod reach each other, the node reaches the partner, the pod's address does not."""
    world = lab(cni=cni, family=family)
    world.start_partner(tcp=(80,), udp=(5000,))
    for version in family.versions:
        ping(world, "client", ADDRESSES.pod.of(version))
        ping(world, "pod", ADDRESSES.client.of(version))
        ping(world, "pod", ADDRESSES.dns.of(version))
        partner = ADDRESSES.partner.of(version)
        for protocol, port in (("tcp", 80), ("udp", 5000)):
            seen = world.ask("node", protocol, partner, port)
            assert isinstance(seen, Answer), seen
            assert (seen.source, seen.local) == (ADDRESSES.node.of(version), partner)
        assert isinstance(world.ask("pod", "tcp", partner, 80, timeout=0.1), str)


@pytest.mark.parametrize(
    ("cni", "expected"),
    [
        (Cni.BRIDGE, {"default via 10.128.0.1 dev eth0"}),
        (Cni.CALICO, {"default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"}),
        (
            Cni.CILIUM,
            {"default via 10.128.0.1 dev eth0 mtu 1450", "10.128.0.1 dev eth0 scope link"},
        ),
        (
            Cni.OVN,
            {
                "default via 10.128.0.1 dev eth0",
                "10.128.0.0/14 via 10.128.0.1 dev eth0",
                "100.64.0.0/16 via 10.128.0.1 dev eth0",
                "172.30.0.0/16 via 10.128.0.1 dev eth0",
            },
        ),
    ],
)
def test_pod_routes(lab: MakeLab, cni: Cni, expected: set[str]) -> None:
    """The pod's routes are the ones its network plugin would have set, and no others."""
    world = lab(cni=cni, family=Family.V4)
    own = {route for route in routes(world, 4) if "proto kernel" in route}
    assert routes(world, 4) - own == expected


def test_families_are_kept_apart(lab: MakeLab) -> None:
    """A world of one family has no address of the other but link-local ones."""
    world = lab(family=Family.V6)
    assert world.run("pod", ("ip", "-4", "addr", "show", "dev", "eth0")).stdout == ""
    assert routes(world, 4) == set()


@pytest.mark.parametrize("mode", [None, "bridge"])
def test_handed_link(lab: MakeLab, mode: str | None) -> None:
    """The annotation's link lies in the pod, down, without address, private unless asked."""
    world = lab(egress=Egress.HANDED, macvlan_mode=mode)
    shown = world.run("pod", ("ip", "-d", "link", "show", "macvlan0")).stdout
    assert "state DOWN" in shown
    assert f"macvlan mode {mode or 'private'}" in shown
    assert "inet" not in world.run("pod", ("ip", "addr", "show", "macvlan0")).stdout


def test_link_left_to_init(lab: MakeLab) -> None:
    """Without annotation the pod has nothing but its cluster link, and the node is in reach."""
    world = lab(egress=Egress.PARENT)
    links = world.run("pod", ("ip", "-o", "link")).stdout.splitlines()
    assert [line.split()[1].split("@")[0].rstrip(":") for line in links] == ["lo", "eth0"]
    world.run("pod", ("test", "-e", f"/run/netns/{world.namespace('node')}"))


def test_multus_link(lab: MakeLab) -> None:
    """Multus hands over a link that is up, has the source already, and may bring a default."""
    world = lab(egress=Egress.MULTUS, family=Family.DUAL, multus_default_metric=200)
    shown = world.run("pod", ("ip", "addr", "show", "dev", "net1", "up")).stdout
    for pair in (ADDRESSES.multus, ADDRESSES.source):
        assert f"inet {pair.v4}/24" in shown
        assert f"inet6 {pair.v6}/64" in shown
    assert f"default via {ADDRESSES.gateway.v4} dev net1 metric 200" in routes(world, 4)
    ping(world, "pod", ADDRESSES.gateway.v4)


def test_strict_filter_comes_first(lab: MakeLab) -> None:
    """Strict reverse-path filtering is in force on every link of the pod before it is set up."""
    world = lab(strict_rp_filter=True)
    for name in ("all", "default", "eth0", "macvlan0"):
        path = f"/proc/sys/net/ipv4/conf/{name}/rp_filter"
        assert world.run("pod", ("cat", path)).stdout == "1\n", name


def test_pod_options(lab: MakeLab) -> None:
    """MTU, sysctls and hosts lines of a spec are what the pod sees."""
    world = lab(
        cluster_mtu=1400,
        pod_sysctls=(("net.ipv4.ip_unprivileged_port_start", "0"),),
        pod_hosts="192.0.2.7\tlegacy.example.test\n",
    )
    assert "mtu 1400" in world.run("pod", ("ip", "link", "show", "eth0")).stdout
    assert (
        world.run("pod", ("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")).stdout == "0\n"
    )
    assert "legacy.example.test" in world.run("pod", ("cat", "/etc/hosts")).stdout
    assert f"nameserver {ADDRESSES.dns.v4}" in world.run("pod", ("cat", "/etc/resolv.conf")).stdout


def test_gateway_answers_no_cluster_address(lab: MakeLab) -> None:
    """A packet with the pod's own source is seen by the partner, and never answered."""
    world = lab(family=Family.V4)
    world.start_partner(udp=(5000,))
    with world.capture("partner", "eth0", "udp port 5000") as capture:
        assert isinstance(world.ask("pod", "udp", ADDRESSES.partner.v4, 5000, timeout=0.2), str)
        there, *_ = capture.packets()
    assert str(ADDRESSES.pod.v4) in there
