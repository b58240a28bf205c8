"""What cannot be set up is refused in one line, with the exit code that says why, and untouched."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.privileges import INIT_CAPABILITIES, READ_ONLY_SYSCTLS
from egress_router.lab.spec import Egress, Family, LabSpec
from egress_router.lab.state import observe_state
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

CONFIGURATION, KERNEL = 2, 4  # exit codes of the contract
REDUCED = (*READ_ONLY_SYSCTLS, *INIT_CAPABILITIES)  # a container that is not privileged
FORWARDING = "net.ipv6.conf.all.forwarding"
NEXT_HOPS = "nexthop via 10.128.0.1 dev eth0 nexthop via 10.128.0.2 dev eth0"
OWN_NAMESPACE = "/run/netns/{node}"


def dropped(*capabilities: str) -> tuple[str, ...]:
    """Runs as root without these capabilities."""
    return ("setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in capabilities))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A world, what is wrong with it, and what init must say; `{node}` is the node's namespace."""

    says: tuple[str, ...]
    code: int = KERNEL
    spec: LabSpec = field(default_factory=LabSpec)
    pod: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    changes: dict[str, str] = field(default_factory=dict)
    wrap: tuple[str, ...] = ()


PARENT = LabSpec(egress=Egress.PARENT)
CASES = {
    "no NET_ADMIN": Case(wrap=dropped("net_admin"), says=("CAP_NET_ADMIN missing",)),
    "no NET_RAW": Case(wrap=dropped("net_raw"), says=("CAP_NET_RAW missing",)),
    "neither": Case(
        wrap=dropped("net_admin", "net_raw"), says=("CAP_NET_ADMIN and CAP_NET_RAW missing",)
    ),
    "IPv6 forwarding cannot be set": Case(
        wrap=REDUCED, says=(f"set {FORWARDING}=1", "give the pod this sysctl")
    ),
    "IPv6 is off and cannot be turned on": Case(
        spec=LabSpec(pod_sysctls=((FORWARDING, "1"),)),
        pod=("sysctl -qw net.ipv6.conf.macvlan0.disable_ipv6=1",),
        wrap=REDUCED,
        says=("net.ipv6.conf.macvlan0.disable_ipv6=0",),
    ),
    "no cluster link": Case(pod=("ip link del eth0",), says=("there is no cluster link",)),
    "several cluster links": Case(
        pod=(
            "ip route del default",
            "ip -6 route del default",
            "ip link add other type veth peer name another",
            "ip link set eth0 down",
            "ip link set eth0 name cluster7",
        ),
        says=("no default route tells which of", "set EGRESS_CLUSTER_INTERFACE"),
    ),
    "unknown cluster link": Case(
        changes={"EGRESS_CLUSTER_INTERFACE": "eth7"},
        code=CONFIGURATION,
        says=("EGRESS_CLUSTER_INTERFACE", "'eth7' is no link of this pod", "eth0"),
    ),
    "default route with two next hops": Case(
        pod=(f"ip route replace default {NEXT_HOPS}",),
        says=("IPv4 default route", "several next hops"),
    ),
    "no egress link": Case(
        spec=PARENT, says=("there is no egress link", "assign-macvlan", "EGRESS_PARENT")
    ),
    "unknown parent": Case(
        spec=PARENT,
        changes={"EGRESS_PARENT": "ens9", "EGRESS_PARENT_NETNS": OWN_NAMESPACE},
        code=CONFIGURATION,
        says=("EGRESS_PARENT", "'ens9' is no link there", "ens4"),
    ),
    "no such namespace": Case(
        spec=PARENT,
        changes={"EGRESS_PARENT_NETNS": "/run/netns/nowhere"},
        says=("enter the network namespace '/run/netns/nowhere'", "ENOENT"),
    ),
    "no namespace at all": Case(
        spec=PARENT,
        changes={"EGRESS_PARENT_NETNS": "/etc/hosts"},
        says=("enter the network namespace '/etc/hosts'", "EINVAL"),
    ),
    "parent down": Case(
        spec=PARENT,
        node=("ip link set ens4 down",),
        changes={"EGRESS_PARENT": "ens4", "EGRESS_PARENT_NETNS": OWN_NAMESPACE},
        says=("the parent link ens4 is down",),
    ),
    "parent of a handed link down": Case(
        node=("ip link set ens4 down",), says=("macvlan0", "no carrier", "parent up")
    ),
    "wrong mode": Case(
        changes={"EGRESS_MACVLAN_MODE": "bridge"},
        says=("macvlan mode is private, EGRESS_MACVLAN_MODE asks bridge",),
    ),
    "wrong parent": Case(
        changes={"EGRESS_PARENT": "to-client", "EGRESS_PARENT_NETNS": OWN_NAMESPACE},
        says=("parent is ens4, EGRESS_PARENT asks to-client",),
    ),
    "wrong kind": Case(
        spec=PARENT,
        pod=("ip link add macvlan0 type bridge",),
        says=("it is a bridge link, which cannot be an egress link",),
    ),
    "MTU too small for IPv6": Case(
        pod=("ip link set macvlan0 mtu 1200",),
        code=CONFIGURATION,
        says=("link macvlan0 has MTU 1200: IPv6 needs at least 1280",),
    ),
    "MTU too small": Case(
        changes={"EGRESS_MTU": "1000"}, code=CONFIGURATION, says=("EGRESS_MTU", "'1000'", "1280")
    ),
    "MTU larger than the parent's": Case(
        changes={"EGRESS_MTU": "9000"}, says=("set link macvlan0 mtu 9000", "EINVAL", "parent")
    ),
    "MTU of a new link larger than the parent's": Case(
        spec=PARENT,
        changes={"EGRESS_MTU": "9000", "EGRESS_PARENT_NETNS": OWN_NAMESPACE},
        code=CONFIGURATION,
        says=("EGRESS_MTU", "'9000'", "ens4", "at most 1500"),
    ),
    "source on the cluster link": Case(
        pod=(f"ip addr add {ADDRESSES.source.v4}/32 dev eth0",),
        code=CONFIGURATION,
        says=("EGRESS_SOURCE", f"'{ADDRESSES.source.v4}' is already on eth0"),
    ),
    "a late step fails": Case(
        pod=(f"ip route add {ADDRESSES.gateway.v4}/32 dev eth0",),
        says=(f"add route {ADDRESSES.gateway.v4}/32 dev macvlan0", "EEXIST"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_and_untouched(lab: MakeLab, name: str) -> None:
    """One line on standard error with everything needed, the exit code, and no change at all."""
    case = CASES[name]
    world = lab(case.spec)
    for host, lines in (("pod", case.pod), ("node", case.node)):
        for line in lines:
            world.run(host, line.split())
    before = observe_state(world), observe_state(world, "node")
    places = {"node": world.namespace("node")}
    changes = {key: value.format(**places) for key, value in case.changes.items()}
    environment = router_environment(world.spec, **changes)
    done = world.router(("init",), environment, wrap=case.wrap, check=False)
    assert done.returncode == case.code, done.stderr
    for words in case.says:
        assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert (observe_state(world), observe_state(world, "node")) == before


WORKING = {
    "IPv4 with two capabilities, /proc/sys read-only": Case(
        spec=LabSpec(family=Family.V4, strict_rp_filter=True), wrap=REDUCED, says=()
    ),
    "IPv4 where IPv6 is off": Case(
        spec=LabSpec(family=Family.V4),
        pod=("sysctl -qw net.ipv6.conf.all.disable_ipv6=1",),
        wrap=REDUCED,
        says=(),
    ),
    "both where the pod was given the sysctl": Case(
        spec=LabSpec(pod_sysctls=((FORWARDING, "1"),)), wrap=REDUCED, says=()
    ),
    "two default routes": Case(
        pod=(
            "ip route add default via 10.128.0.1 dev eth0 metric 500",
            "ip -6 route add default via fd00:10:128::1 dev eth0 metric 2000",
        ),
        says=(),
    ),
    "a default route of a third link": Case(
        pod=(
            "ip link add other type veth peer name another",
            "ip addr add 198.18.0.1/24 dev other",
            "ip link set other up",
            "ip link set another up",
            "ip route add default via 198.18.0.2 dev other metric 9",
        ),
        says=(),
    ),
}


@pytest.mark.parametrize("name", WORKING)
def test_set_up_all_the_same(lab: MakeLab, name: str) -> None:
    """What looks unusual but is enough is set up, and the partner sees the source."""
    case = WORKING[name]
    world = lab(case.spec)
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    for line in case.pod:
        world.run("pod", line.split())
    environment = router_environment(world.spec)
    world.router(("init",), environment, wrap=case.wrap)
    for version in case.spec.family.versions:
        for host, target in (("client", ADDRESSES.pod), ("pod", ADDRESSES.partner)):
            seen = world.ask(host, "tcp", target.of(version), 80)
            assert isinstance(seen, Answer), (host, seen)
            assert seen.source == ADDRESSES.source.of(version)
        shown = world.run("pod", ("ip", f"-{version}", "route", "show", "default")).stdout
        assert [line.split()[0] for line in shown.splitlines()] == ["default", "unreachable"]


def test_proxy_modes_need_no_forwarding(lab: MakeLab) -> None:
    """Where /proc/sys is read-only a proxy pod has IPv6 all the same: it forwards nothing."""
    world = lab()
    environment = router_environment(
        world.spec, EGRESS_ROUTER_MODE="http-proxy", EGRESS_DESTINATION=None
    )
    world.router(("init",), environment, wrap=REDUCED)
    world.start_partner(tcp=(80,))
    for version in (4, 6):
        seen = world.ask("pod", "tcp", ADDRESSES.partner.of(version), 80)
        assert isinstance(seen, Answer), seen
        assert seen.source == ADDRESSES.source.of(version)


@pytest.mark.parametrize("family", [Family.V4, Family.V6])
def test_pod_without_default_route(lab: MakeLab, family: Family) -> None:
    """Without a default route the one other link is the cluster's; its neighbours are served."""
    world = lab(family=family)
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    (version,) = family.versions
    world.run("pod", ("ip", f"-{version}", "route", "del", "default"))
    world.router(("init",), router_environment(world.spec))
    seen = world.ask("node", "tcp", ADDRESSES.pod.of(version), 80)
    assert isinstance(seen, Answer), seen
    assert seen.source == ADDRESSES.source.of(version)


@pytest.mark.parametrize("version", [4, 6])
def test_silent_gateway(lab: MakeLab, version: int) -> None:
    """A gateway that does not answer is a warning with the usual causes, and exit code 0."""
    silent = {4: "192.168.12.254", 6: "2001:db8:12::254"}[version]
    world = lab(family=Family.V4 if version == 4 else Family.V6)
    done = world.router(("init",), router_environment(world.spec, EGRESS_GATEWAY=silent))
    warning = next(line for line in done.stderr.splitlines() if "gateway_silent" in line)
    assert silent in warning
    assert '"level":"warning"' in warning
    assert "forged transmits" in warning
    assert "init_done" in done.stderr
