"""What the redirect promises a client: the partner sees the source address, whatever the port."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from egress_router.lab import probe
from egress_router.lab.addresses import ADDRESSES, Address
from egress_router.lab.environment import (
    TCP_PORTS,
    UDP_PORTS,
    expected_calls,
    router_environment,
)
from egress_router.lab.spec import LabSpec
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

NAME = "www.partner.test."
TRANSFER_BYTES = 1 << 20
TRANSFER_LIMIT_S = 20.0
CALLS = [(version, *call) for version in (4, 6) for call in expected_calls(version)]


@pytest.fixture(scope="module")
def world(module_lab: MakeLab) -> Lab:
    """A dual-stack pod with strict reverse-path filtering on every link, set up by init."""
    world = module_lab(strict_rp_filter=True)
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    world.start_nameserver(
        f"{NAME} 5 IN A {ADDRESSES.partner.v4}", f"{NAME} 5 IN AAAA {ADDRESSES.partner.v6}"
    )
    world.router(("init",), router_environment(world.spec))
    return world


@pytest.mark.parametrize(("version", "protocol", "port", "server", "there"), CALLS)
def test_partner_sees_the_source(
    world: Lab, version: int, protocol: str, port: int, server: Address, there: int
) -> None:
    """Every kind of destination line leads to its server, from the source, and back again."""
    seen = world.ask("client", protocol, ADDRESSES.pod.of(version), port)
    assert isinstance(seen, Answer), seen
    assert (seen.source, seen.local, seen.local_port) == (
        ADDRESSES.source.of(version),
        server,
        there,
    )


@pytest.mark.parametrize("version", [4, 6])
def test_clients_network_is_unknown(world: Lab, version: int) -> None:
    """No route of the pod names the client's network: marks alone bring its answers back."""
    table = ("ip", f"-{version}", "route", "show", "table", "all")
    client = ADDRESSES.client_network.of(version)
    listed = world.run("pod", table).stdout
    named = {line.split()[0] for line in listed.splitlines()}
    assert str(client) not in named
    assert world.run("pod", ("cat", "/proc/sys/net/ipv4/conf/all/rp_filter")).stdout == "1\n"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_unbound_socket(world: Lab, version: int, protocol: str) -> None:
    """A socket in the pod that binds nothing leaves from the source address."""
    seen = world.ask("pod", protocol, ADDRESSES.partner.of(version), 80)
    assert isinstance(seen, Answer), seen
    assert seen.source == ADDRESSES.source.of(version)


def test_name_resolution_stays_inside(world: Lab) -> None:
    """A question to the nameservers of resolv.conf leaves by the cluster link, and by no other."""
    with (
        world.capture("pod", "eth0", "udp port 53") as inside,
        world.capture("pod", "macvlan0", "port 53") as outside,
    ):
        answers = world.lookup("pod", NAME)
        assert [answer.get("answers") for answer in answers] == [[str(ADDRESSES.partner.v4)]] * 2
        assert len(inside.packets()) == 4  # two nameservers, asked and answered
        assert outside.packets() == ()


@pytest.mark.parametrize("version", [4, 6])
def test_ping_is_answered_by_the_pod(world: Lab, version: int) -> None:
    """An echo request to the pod's cluster address ends in the pod, fallback or not."""
    with world.capture("pod", "macvlan0", "icmp or icmp6 and ip6[40] == 128") as outside:
        pod = str(ADDRESSES.pod.of(version))
        world.run("client", ("ping", "-n", "-c", "1", "-W", "2", pod))
        assert outside.packets() == ()


@pytest.fixture(scope="module")
def narrow_world(module_lab: MakeLab) -> Lab:
    """A pod that redirects the ports it was told, and no others."""
    world = module_lab()
    world.router(
        ("init",), router_environment(world.spec, fallback=False, EGRESS_CONFLICT="takeover")
    )
    return world


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_port_without_destination(narrow_world: Lab, version: int, protocol: str) -> None:
    """Without a fallback a port that no line names is refused at once, and reaches nobody."""
    world = narrow_world
    with world.capture("pod", "macvlan0", f"{protocol} port 81") as outside:
        answer = world.ask("client", protocol, ADDRESSES.pod.of(version), 81, timeout=1)
        assert answer == "ECONNREFUSED"
        assert outside.packets() == ()


def test_partners_refusal_comes_back(world: Lab) -> None:
    """A port that the partner refuses is refused to the client too, by TCP and by UDP."""
    for version in (4, 6):
        for protocol in ("tcp", "udp"):
            answer = world.ask("client", protocol, ADDRESSES.pod.of(version), 9999, timeout=1)
            assert answer == "ECONNREFUSED", (version, protocol)


@pytest.mark.parametrize(("cluster_mtu", "segment_bytes"), [(1450, 1410), (9000, 1460)])
def test_large_transfer(lab: MakeLab, cluster_mtu: int, segment_bytes: int) -> None:
    """With another MTU on the cluster link a megabyte passes both ways, in segments that fit."""
    world = lab(LabSpec(cluster_mtu=cluster_mtu))
    world.start_partner(tcp=(80,))
    world.router(("init",), router_environment(world.spec, EGRESS_CONFLICT="takeover"))
    synchronise = "tcp[tcpflags] & tcp-syn != 0"
    with (
        world.capture("client", "eth0", f"src net {ADDRESSES.pod.v4} and {synchronise}") as back,
        world.capture("partner", "eth0", f"dst port 80 and {synchronise}") as there,
        ThreadPoolExecutor(2) as pool,
    ):
        results = list(pool.map(lambda version: transfer(world, version), (4, 6)))
        assert results == [{"echoed": TRANSFER_BYTES}] * 2
        for packets in (back.packets(), there.packets()):
            assert packets
            assert all(f"mss {segment_bytes}" in packet for packet in packets), packets


def transfer(world: Lab, version: int) -> dict[str, object]:
    """Sends a megabyte through the router and gets it back from the partner."""
    pod = str(ADDRESSES.pod.of(version))
    options = ("--echo", str(TRANSFER_BYTES), "--timeout", str(TRANSFER_LIMIT_S))
    argv = (*BARE_PYTHON, probe.__file__, "tcp", pod, "80", *options)
    told = world.run("client", argv, check=False, timeout=TRANSFER_LIMIT_S + 5)
    result: dict[str, object] = json.loads(told.stdout)
    return result
