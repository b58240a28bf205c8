"""What nobody gets: from the outside into the pod or the cluster, from the cluster past the NAT."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from egress_router.lab import partner, rogue
from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.checks import ask_all
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.spec import LabSpec
from egress_router.lab.state import observe_state
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

VERSIONS = (4, 6)
TRY_S = 0.3
NO_NEIGHBOURS = "(tcp or udp or icmp or icmp6 and ip6[40] == 128)"  # no ARP, no discovery
OPEN_PORT = 2222  # served by the pod itself, on every address
TALKER_PORT = 40000
TALK = f"""
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", {TALKER_PORT}))
sock.connect((sys.argv[1], 80))
sock.settimeout(2)
sock.send(b"x")
sock.recv(1000)
print("answered", flush=True)
sock.settimeout(None)
sock.recv(1000)
"""


def serve_in_pod(world: Lab) -> None:
    """Opens a port on every address of the pod, for whoever gets that far."""
    ports = ("--tcp", str(OPEN_PORT), "--udp", str(OPEN_PORT))
    world.start("pod", (*BARE_PYTHON, partner.__file__, *ports), name="server").wait_for_line(
        "ready"
    )


@pytest.fixture(scope="module")
def world(module_lab: MakeLab) -> Lab:
    """A dual-stack redirect pod that itself serves a port on all of its addresses."""
    world = module_lab()
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    serve_in_pod(world)
    environment = router_environment(world.spec, fallback=False, EGRESS_CONFLICT="takeover")
    world.router(("init",), environment)
    return world


@contextmanager
def routes(world: Lab, host: str, hops: dict[str, str]) -> Iterator[None]:
    """Routes of a host for the time of a test: network to next hop."""
    with ExitStack() as added:
        for network, hop in hops.items():
            world.run(host, ("ip", "route", "replace", network, "via", hop))
            added.callback(world.run, host, ("ip", "route", "del", network, "via", hop))
        yield


def pod_as_next_hop() -> dict[str, str]:
    """An outside host's routes to the cluster, through the router."""
    return {str(ADDRESSES.cluster_network.of(v)): str(ADDRESSES.source.of(v)) for v in VERSIONS}


def test_served_port_is_open_inside(world: Lab) -> None:
    """The pod's own port answers the cluster, so that the silence outside means something."""
    for version in VERSIONS:
        for protocol in ("tcp", "udp"):
            answer = world.ask("client", protocol, ADDRESSES.pod.of(version), OPEN_PORT)
            assert isinstance(answer, Answer), answer


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_no_connection_from_outside(world: Lab, version: int, protocol: str) -> None:
    """A host on the outside network gets no answer from any port or address of the pod."""
    outsider = ADDRESSES.outsider.of(version)
    targets = (ADDRESSES.source.of(version), ADDRESSES.pod.of(version))
    answered = f"{protocol} and dst host {outsider}"
    with (
        routes(world, "outsider", pod_as_next_hop()),
        world.capture("pod", "eth0", answered) as inside,
        world.capture("pod", "macvlan0", answered) as outside,
    ):
        calls = [
            ("outsider", protocol, target, port) for target in targets for port in (OPEN_PORT, 80)
        ]
        answers = ask_all(world, calls, TRY_S)
        assert all(isinstance(answer, str) for answer in answers), answers
        assert inside.packets() == outside.packets() == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_routed_into_the_cluster(world: Lab, version: int) -> None:
    """Packets that an outside host sends to the cluster through the pod stay outside."""
    outsider = ADDRESSES.outsider.of(version)
    targets = [
        pair.of(version) for pair in (ADDRESSES.client, ADDRESSES.pod_gateway, ADDRESSES.pod)
    ]
    with (
        routes(world, "outsider", pod_as_next_hop()),
        world.capture("pod", "eth0", f"host {outsider}") as inside,
    ):
        calls = [("outsider", kind, target, 80) for target in targets for kind in ("tcp", "udp")]
        answers = ask_all(world, calls, TRY_S)
        assert all(isinstance(answer, str) for answer in answers), answers
        for target in targets:
            ping = ("ping", "-n", "-c", "1", "-W", "0.3", str(target))
            assert world.run("outsider", ping, check=False).returncode != 0
        assert inside.packets() == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_source_answers_ping(world: Lab, version: int) -> None:
    """The source address itself answers echo requests, as the outside's monitoring expects."""
    ping = ("ping", "-n", "-c", "1", "-W", "2", str(ADDRESSES.source.of(version)))
    world.run("outsider", ping)


@pytest.mark.parametrize("version", VERSIONS)
def test_cluster_cannot_pass_beside_the_nat(world: Lab, version: int) -> None:
    """A cluster host that makes the pod its next hop gets nothing through, in no direction."""
    pod, outsider = str(ADDRESSES.pod.of(version)), ADDRESSES.outsider.of(version)
    partner_network = str(ADDRESSES.partner_network.of(version))
    length = outsider.max_prefixlen
    from_node = f"host {ADDRESSES.pod_gateway.of(version)} or host {ADDRESSES.node.of(version)}"
    from_source = f"{NO_NEIGHBOURS} and host {ADDRESSES.source.of(version)}"
    with (
        routes(world, "node", {partner_network: pod, f"{outsider}/{length}": pod}),
        world.capture("pod", "macvlan0", f"{NO_NEIGHBOURS} and ({from_node})") as raw,
        world.capture("pod", "macvlan0", from_source) as translated,
    ):
        calls: list[tuple[str, str, Address, int]] = [
            ("node", protocol, target, 80)
            for target in (ADDRESSES.partner.of(version), outsider)
            for protocol in ("tcp", "udp")
        ]
        answers = ask_all(world, calls, TRY_S)
        assert all(isinstance(answer, str) for answer in answers), answers
        ping = ("ping", "-n", "-c", "1", "-W", "0.3", str(ADDRESSES.partner.of(version)))
        assert world.run("node", ping, check=False).returncode != 0
        assert raw.packets() == translated.packets() == ()


@pytest.fixture(scope="module")
def trusting_world(module_lab: MakeLab) -> Lab:
    """A pod that does not forward, whose links believe advertisements and redirects."""
    world = module_lab(
        LabSpec(
            pod_sysctls=(
                ("net.ipv6.conf.default.accept_ra", "1"),
                ("net.ipv6.conf.default.accept_redirects", "1"),
                ("net.ipv4.conf.default.accept_redirects", "1"),
                ("net.ipv4.conf.all.accept_redirects", "1"),
            )
        )
    )
    world.run("gw", ("ip", "addr", "add", "fe80::1/64", "dev", "eth0", "nodad"))
    world.run("outsider", ("ip", "addr", "add", "fe80::bad/64", "dev", "eth0", "nodad"))
    world.start_partner(udp=(80,))
    changes = {"EGRESS_ROUTER_MODE": "http-proxy", "EGRESS_CONFLICT": "takeover"}
    gateways = f"{ADDRESSES.gateway.v4},fe80::1"
    environment = router_environment(
        world.spec, EGRESS_GATEWAY=gateways, EGRESS_DESTINATION=None, **changes
    )
    world.router(("init",), environment)
    return world


def send(world: Lab, *words: str) -> None:
    """Has the outsider send a rogue frame, and returns when the pod has seen it."""
    world.run("outsider", (*BARE_PYTHON, rogue.__file__, "eth0", *words))
    ping = ("ping", "-n", "-c", "1", "-W", "2", str(ADDRESSES.source.v4))
    world.run("outsider", ping)  # comes behind the frame, and is answered


def test_router_advertisement_changes_nothing(trusting_world: Lab) -> None:
    """A router advertisement from the outside network leaves addresses, routes and MTU alone."""
    world = trusting_world
    before = observe_state(world)
    send(world, "advertise", "fe80::bad", "2001:db8:bad::")
    assert observe_state(world) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_redirect_changes_nothing(trusting_world: Lab, version: int) -> None:
    """An ICMP redirect, though it seems to come from the gateway, moves no route."""
    world = trusting_world
    partner_address = str(ADDRESSES.partner.of(version))
    talker = world.start("pod", (*BARE_PYTHON, "-c", TALK, str(ADDRESSES.partner.v4)))
    talker.wait_for_line("answered")
    words = world.run("pod", ("ip", "-d", "link", "show", "macvlan0")).stdout.split()
    mac = words[words.index("link/ether") + 1]
    lookup = ("ip", "route", "get", partner_address)
    before = world.run("pod", lookup).stdout
    ping = ("ping", "-n", "-c", "1", "-W", "2", str(ADDRESSES.outsider.v4))
    world.run("pod", ping)  # a next hop that is not known yet is only looked up
    if version == 4:
        claim = (str(ADDRESSES.gateway.v4), str(ADDRESSES.source.v4), partner_address)
        ports = (str(TALKER_PORT), "80")
        send(world, "redirect", mac, *claim, str(ADDRESSES.outsider.v4), *ports)
    else:
        claim = ("fe80::1", str(ADDRESSES.source.v6), partner_address)
        send(world, "redirect", mac, *claim, "fe80::bad")
    assert world.run("pod", lookup).stdout == before
    talker.stop()
