"""Whose the source address is: asked before it is taken, told when it is, defended afterwards."""

import re
import signal
import time
from collections.abc import Callable

import pytest

from egress_router.kernel.netns import entered
from egress_router.kernel.station import Station
from egress_router.lab import rogue
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import router_environment
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.spec import Egress, Family, LabSpec
from egress_router.lab.state import observe_state
from egress_router.lab.world import BARE_PYTHON, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

CONFLICT = 3  # the exit code of the contract
CONFLICT_S = 10.0  # from a late holder's first word to the alarm
NET_RAW = ("setpriv", "--bounding-set=-all,+net_raw")
RFC_5227_PROBE = "arp and arp[14:4] = 0"  # a request without a sender
DAD_PROBE = "icmp6 and ip6[40] == 135 and src host ::"


def take(world: Lab, version: int) -> None:
    """The outsider takes the source address."""
    address, length = ADDRESSES.source.of(version), ADDRESSES.lan_network.of(version).prefixlen
    trust = ("nodad",) if version == 6 else ()
    world.run("outsider", ("ip", "addr", "add", f"{address}/{length}", "dev", "eth0", *trust))


def release(world: Lab, version: int) -> None:
    """The outsider lets go of it."""
    address, length = ADDRESSES.source.of(version), ADDRESSES.lan_network.of(version).prefixlen
    world.run("outsider", ("ip", "addr", "del", f"{address}/{length}", "dev", "eth0"))


def mac(world: Lab, host: str, link: str) -> str:
    """A link's MAC address."""
    return world.run(host, ("cat", f"/sys/class/net/{link}/address")).stdout.strip()


def parents(world: Lab) -> dict[str, str]:
    """What lets init make the link, in worlds where it has to."""
    if world.spec.egress is Egress.PARENT:
        return {"EGRESS_PARENT_NETNS": f"/run/netns/{world.namespace('node')}"}
    return {}


@pytest.mark.parametrize("egress", [Egress.HANDED, Egress.PARENT])
@pytest.mark.parametrize("version", [4, 6])
def test_held_address(lab: MakeLab, version: int, egress: Egress) -> None:
    """An address in use is exit code 3 with the holder's MAC, and the pod is as it was."""
    world = lab(egress=egress)
    take(world, version)
    before = observe_state(world)
    environment = router_environment(
        world.spec,
        EGRESS_CONFLICT_TIMEOUT="0",
        EGRESS_PROBE_SECONDS="0.3",
        **parents(world),
    )
    done = world.router(("init",), environment, check=False)
    assert done.returncode == CONFLICT
    assert f"address {ADDRESSES.source.of(version)} is in use" in done.stderr
    assert mac(world, "outsider", "eth0") in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert observe_state(world) == before


def test_holder_goes_away(lab: MakeLab) -> None:
    """Init waits for a holder, says who it is, and succeeds as soon as it is gone."""
    world = lab()
    for version in (4, 6):
        take(world, version)
    environment = router_environment(world.spec, EGRESS_CONFLICT_TIMEOUT="30")
    init = world.start_router(("init",), environment)
    line = init.wait_for_line("address_held")
    assert mac(world, "outsider", "eth0") in line
    for version in (4, 6):
        release(world, version)
    assert init.wait(10) == 0
    assert "init_done" in init.errors() + init.output()


def test_signal_while_waiting(lab: MakeLab) -> None:
    """SIGTERM ends the wait for a holder soon, and the pod is as it was."""
    world = lab()
    take(world, 4)
    before = observe_state(world)
    environment = router_environment(world.spec, EGRESS_CONFLICT_TIMEOUT="30")
    init = world.start_router(("init",), environment)
    init.wait_for_line("address_held")
    init.signal(signal.SIGTERM)
    assert init.wait(5) == 128 + signal.SIGTERM
    assert observe_state(world) == before


def test_signal_while_a_gateway_is_silent(lab: MakeLab) -> None:
    """SIGTERM while init waits for a gateway's answer is honoured, and the pod is as it was."""
    world = lab()
    before = observe_state(world)
    nobody = ",".join(str(ADDRESSES.lan_network.of(version)[77]) for version in (4, 6))
    environment = router_environment(world.spec, EGRESS_GATEWAY=nobody, EGRESS_ROUTER_DEBUG="1")
    init = world.start_router(("init",), environment)
    init.wait_for_line("address_announced")
    init.signal(signal.SIGTERM)
    assert init.wait(5) == 128 + signal.SIGTERM
    assert observe_state(world) == before


def test_link_that_goes_while_it_is_listened_on(lab: MakeLab) -> None:
    """A link that goes down under the claim is an error in one line, and everything is undone."""
    world = lab()
    before = observe_state(world)
    environment = router_environment(world.spec, EGRESS_PROBE_SECONDS="5", EGRESS_LOG_FORMAT="text")
    with world.capture("outsider", "eth0", RFC_5227_PROBE) as probes:
        init = world.start_router(("init",), environment)
        deadline = time.monotonic() + CONFLICT_S
        while not probes.packets():
            assert time.monotonic() < deadline
    world.run("pod", ("ip", "link", "set", "macvlan0", "down"))
    assert init.wait(5) == 4
    assert "error: listen on macvlan0: Network is down" in init.errors()
    assert observe_state(world) == before


def test_station_hears_the_families_that_it_has_joined(lab: MakeLab) -> None:
    """There is one socket for each family, and one that joins later hears a holder as well."""
    world = lab()
    for version in (4, 6):
        take(world, version)
    own = mac(world, "gw", "eth0")
    with (
        entered(f"/run/netns/{world.namespace('gw')}"),
        Station("eth0", own, (4,)) as station,
    ):
        assert len(station.filenos()) == 1
        for version in (4, 6):
            station.join((version,))
            holder = station.probe([ADDRESSES.source.of(version)], listen_s=2)
            assert holder is not None
            assert holder.mac == mac(world, "outsider", "eth0")
        assert len(station.filenos()) == 2
        station.join((4, 6))
        assert len(station.filenos()) == 2


@pytest.mark.parametrize("version", [4, 6])
def test_holder_that_defends(lab: MakeLab, version: int) -> None:
    """A holder that hears no probe, and defends its address, stops init; the pod is as it was."""
    world = lab()
    before = observe_state(world)
    address = str(ADDRESSES.source.of(version))
    words = (*BARE_PYTHON, rogue.__file__, "eth0", "defend", address)
    holder = world.start("outsider", words, name="holder")
    holder.wait_for_line("ready")
    done = world.router(("init",), router_environment(world.spec), check=False)
    assert done.returncode == CONFLICT, done.stderr
    said = done.stderr.splitlines()[-1]
    assert f"address {address} is in use: held by {mac(world, 'outsider', 'eth0')}" in said
    assert "spoke up after the claim" in said
    holder.wait_for_line("defended")
    assert observe_state(world) == before


def test_defence_is_no_reason_to_stop_a_takeover(lab: MakeLab) -> None:
    """Told to take over, init claims an address that somebody defends."""
    world = lab()
    words = (*BARE_PYTHON, rogue.__file__, "eth0", "defend", str(ADDRESSES.source.v4))
    holder = world.start("outsider", words, name="holder")
    holder.wait_for_line("ready")
    world.router(("init",), router_environment(world.spec, EGRESS_CONFLICT="takeover"))
    holder.wait_for_line("defended")
    assert str(ADDRESSES.source.v4) in world.run("pod", ("ip", "addr", "show", "macvlan0")).stdout


def test_proxying_gateway_is_no_holder(lab: MakeLab) -> None:
    """A gateway that proxies ARP answers announcements; neither init nor daemon takes offence."""
    world = lab(family=Family.V4)
    source = str(ADDRESSES.source.v4)
    world.run("gw", ("ip", "link", "add", "elsewhere", "type", "veth", "peer", "name", "nowhere"))
    world.run("gw", ("ip", "link", "set", "elsewhere", "up"))
    world.run("gw", ("ip", "link", "set", "nowhere", "up"))
    world.run("gw", ("ip", "route", "add", source, "dev", "elsewhere"))
    for setting in ("conf.eth0.proxy_arp=1", "neigh.eth0.proxy_delay=0"):
        world.run("gw", ("sysctl", "-qw", f"net.ipv4.{setting}"))
    with world.capture("gw", "eth0", f"arp[6:2] = 2 and src host {source}") as capture:
        world.router(("init",), router_environment(world.spec))
        answers = len(capture.packets())
        assert answers
        variables = {"EGRESS_ANNOUNCE_SECONDS": "0.2", "EGRESS_WATCH_SECONDS": "0.2"}
        daemon = world.start_router(("redirect",), variables, wrap=NET_RAW)
        wait_until_ready(world, daemon)
        deadline = time.monotonic() + CONFLICT_S
        while len(capture.packets()) <= answers + 3:
            assert time.monotonic() < deadline
    assert "address_conflict" not in daemon.output()
    assert world.router(("health",), {}, check=False).returncode == 0


def test_holder_that_answers_announcements_alone(lab: MakeLab) -> None:
    """One that answers an announcement as a gateway's proxy does, and is none, stops init."""
    world = lab(family=Family.V4)
    before = observe_state(world)
    source = str(ADDRESSES.source.v4)
    words = (*BARE_PYTHON, rogue.__file__, "eth0", "defend", source, "by-answer")
    holder = world.start("outsider", words, name="holder")
    holder.wait_for_line("ready")
    done = world.router(("init",), router_environment(world.spec), check=False)
    assert done.returncode == CONFLICT, done.stderr
    assert f"held by {mac(world, 'outsider', 'eth0')}" in done.stderr
    assert observe_state(world) == before


@pytest.mark.parametrize("version", [4, 6])
def test_station_remembers_who_spoke_after_the_claim(lab: MakeLab, version: int) -> None:
    """Whoever shows an address after its claim is told at once, however late somebody asks."""
    world = lab()
    address, holder = ADDRESSES.source.of(version), mac(world, "outsider", "eth0")
    with (
        entered(f"/run/netns/{world.namespace('gw')}"),
        Station("eth0", mac(world, "gw", "eth0")) as station,
    ):
        assert (
            station.challenger(until=time.monotonic() + 60) is None
        )  # nothing is claimed: at once
        station.claim([address], probe_s=0.1, timeout_s=0, waiting=lambda _: None)
        assert station.challenger() is None
        world.run("outsider", (*BARE_PYTHON, rogue.__file__, "eth0", "announce", str(address)))
        gateway = ADDRESSES.lan_network.v4[77]
        station.find(gateway, ADDRESSES.gateway.v4, listen_s=0.1)  # reads what is there
        found = station.challenger(until=time.monotonic() + 60)
        assert found is not None
        assert (found.address, found.mac) == (address, holder)


@pytest.mark.parametrize("conflict", ["takeover", "wait"])
def test_takeover_does_not_probe(lab: MakeLab, conflict: str) -> None:
    """Told to take over, init sends no probe and claims; told to wait, it probes three times."""
    world = lab()
    if conflict == "takeover":
        take(world, 4)
        take(world, 6)
    environment = router_environment(world.spec, EGRESS_CONFLICT=conflict)
    source = f"{ADDRESSES.source.v6}"
    with (
        world.capture("outsider", "eth0", RFC_5227_PROBE) as arp,
        world.capture("outsider", "eth0", DAD_PROBE) as discovery,
    ):
        world.router(("init",), environment)
        wanted = 0 if conflict == "takeover" else 3
        assert len(arp.packets()) == wanted
        assert len([line for line in discovery.packets() if source in line]) == wanted


def test_address_is_announced_twice(lab: MakeLab) -> None:
    """The outside network is told twice, in both families, and no process is left to do it."""
    world = lab()
    announced = f"arp[14:4] = arp[24:4] and src host {ADDRESSES.source.v4}"
    advertised = f"icmp6 and ip6[40] == 136 and src host {ADDRESSES.source.v6} and dst host ff02::1"
    with (
        world.capture("outsider", "eth0", f"arp and {announced}") as arp,
        world.capture("outsider", "eth0", advertised) as discovery,
    ):
        world.router(("init",), router_environment(world.spec, EGRESS_CONFLICT="takeover"))
        left = world.run("pod", ("ip", "netns", "pids", world.namespace("pod"))).stdout.split()
        assert len(arp.packets()) == 2
        assert len(discovery.packets()) == 2
    commands = [world.run("pod", ("ps", "-o", "args=", "-p", pid), check=False) for pid in left]
    assert not [done.stdout for done in commands if "egress_router" in done.stdout]


@pytest.mark.parametrize(
    ("family", "head_start"),
    [(Family.DUAL, 0), (Family.DUAL, 1), (Family.DUAL, 3), (Family.V6, 0), (Family.V6, 2)],
)
def test_two_routers_at_once(lab: MakeLab, family: Family, head_start: int) -> None:
    """Two pods that start with one address never both get it, and one of them does."""
    world = lab(LabSpec(twin=True, family=family))
    environment = router_environment(
        world.spec, EGRESS_PROBE_SECONDS="0.6", EGRESS_CONFLICT_TIMEOUT="6"
    )
    first = world.start_router(("init",), environment, host="pod")
    for _ in range(head_start):
        world.run("client", ("sleep", "0.15"))
    second = world.start_router(("init",), environment, host="twin")
    codes = sorted((first.wait(40), second.wait(40)))
    assert codes == [0, CONFLICT], (first.tail(), second.tail())


def test_two_routers_at_once_by_default(lab: MakeLab) -> None:
    """In the time that init takes by default, too, two never both get the address."""
    world = lab(LabSpec(twin=True))
    environment = router_environment(
        world.spec, EGRESS_PROBE_SECONDS=None, EGRESS_CONFLICT_TIMEOUT="6"
    )
    both = [world.start_router(("init",), environment, host=host) for host in ("pod", "twin")]
    codes = sorted(init.wait(40) for init in both)
    # On a machine that is slow enough each may find the other, and give way.
    assert codes in ([0, CONFLICT], [CONFLICT, CONFLICT]), [init.tail() for init in both]


@pytest.mark.parametrize("version", [4, 6])
def test_holder_with_the_same_mac(lab: MakeLab, version: int) -> None:
    """A router that made its link finds another one that did, though their MACs are the same."""
    family = Family.V4 if version == 4 else Family.V6
    world = lab(LabSpec(twin=True, family=family, egress=Egress.PARENT))
    environment = router_environment(
        world.spec,
        EGRESS_PARENT_NETNS=f"/run/netns/{world.namespace('node')}",
        EGRESS_CONFLICT_TIMEOUT="0",
        EGRESS_ROUTER_MODE="http-proxy",
        EGRESS_DESTINATION=None,
    )
    world.router(("init",), environment)
    own = mac(world, "pod", "macvlan0")
    assert own.startswith("02:e6:" if version == 4 else "02:e7:")
    world.run("pod", ("ip", "link", "del", "macvlan0"))
    world.run("twin", ("ip", "link", "set", "macvlan0", "address", own))
    world.run("twin", ("ip", "link", "set", "macvlan0", "up"))
    source = f"{ADDRESSES.source.of(version)}/{32 if version == 4 else 128}"
    nodad = ("nodad",) if version == 6 else ()
    world.run("twin", ("ip", "addr", "add", source, "dev", "macvlan0", *nodad))
    done = world.router(("init",), environment, check=False)
    assert done.returncode == CONFLICT, done.stderr
    assert f"held by {own}" in done.stderr
    world.run("twin", ("ip", "addr", "del", source, "dev", "macvlan0"))
    world.router(("init",), environment)
    assert mac(world, "pod", "macvlan0") == own


@pytest.mark.parametrize("version", [4, 6])
def test_late_holder_is_an_alarm(lab: MakeLab, version: int) -> None:
    """A station that takes the address later: log line with its MAC, not ready, metric, defence."""
    world = lab()
    environment = router_environment(world.spec, EGRESS_CONFLICT="takeover")
    world.router(("init",), environment)
    daemon = world.start_router(("redirect",), {}, wrap=NET_RAW)
    wait_until_ready(world, daemon)
    world.run("outsider", ("sysctl", "-q", "-w", "net.ipv6.conf.eth0.ndisc_notify=1"))
    pod_mac, holder = mac(world, "pod", "macvlan0"), mac(world, "outsider", "eth0")
    with world.capture("outsider", "eth0", f"ether src {pod_mac} and (arp or icmp6)") as capture:
        take(world, version)
        source = str(ADDRESSES.source.of(version))
        if version == 4:
            world.run("outsider", ("arping", "-q", "-c", "1", "-A", "-I", "eth0", source))
        else:
            # Setting the MAC, even to what it is, has the kernel advertise (ndisc_notify).
            world.run("outsider", ("ip", "link", "set", "eth0", "address", holder))
        line = daemon.wait_for_line("address_conflict", CONFLICT_S)
        assert holder in line
        assert source in line
        health = world.router(("health",), {}, check=False)
        assert health.returncode == 1
        assert f"{source} is also used by {holder}" in health.stderr
        if version == 4:
            assert any(source in packet for packet in capture.packets())
    metrics = scrape(world)
    assert metrics["egress_router_address_conflicts_total"] == 1
    assert metrics["egress_router_ready"] == 0


SCRAPE = """
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("\\0egress-router/redirect")
    s.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
    print(b"".join(iter(lambda: s.recv(65536), b"")).decode())
"""


def scrape(world: Lab) -> dict[str, float]:
    """The daemon's metrics that have no labels."""
    text = world.run("pod", ("python3", "-c", SCRAPE)).stdout
    found = re.findall(r"^([a-z_]+) ([0-9.e+]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}
