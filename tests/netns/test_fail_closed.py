"""When the way out is gone, nothing leaves by another one; when it is back, everything works."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.checks import ask_all
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.process import POLL_S
from egress_router.lab.runner import start_daemon, wait_until_ready
from egress_router.lab.spec import Egress
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

TRY_S = 0.3  # per call that must fail; the lab answers in a millisecond
RECOVERY_S = 10.0
VERSIONS = (4, 6)
OUTSIDE = " or ".join(f"dst net {ADDRESSES.partner_network.of(v)}" for v in VERSIONS)
TALKER = """
import signal, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 80))
sock.settimeout(2)
sock.send(b"x")
sock.recv(1000)
print("answered", flush=True)
sock.settimeout(0.02)
while True:
    for call in (lambda: sock.send(b"x"), lambda: sock.recv(1000)):
        try:
            call()
        except OSError as error:
            print("refused", error, flush=True)
    print("tried", flush=True)
"""
BREAKS = {
    "down": ("link set macvlan0 down",),
    "deleted": ("link del macvlan0",),
    "addresses removed": (
        f"addr del {ADDRESSES.source.v4}/24 dev macvlan0",
        f"addr del {ADDRESSES.source.v6}/64 dev macvlan0",
    ),
    "default route removed": ("route del default", "-6 route del default dev macvlan0"),
}


def environment(world: Lab) -> dict[str, str]:
    """Init's, and the daemon's that is to repair: the link may have to be made again."""
    return router_environment(
        world.spec,
        EGRESS_PARENT_NETNS=f"/run/netns/{world.namespace('node')}",
        EGRESS_CONFLICT="takeover",
    )


@pytest.fixture
def world(lab: MakeLab) -> Lab:
    """A dual-stack pod whose link init made, set up."""
    world = lab(egress=Egress.PARENT)
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    world.router(("init",), environment(world))
    return world


def wait_until(true: Callable[[], bool]) -> None:
    """Waits for a condition that a running program brings about."""
    deadline = time.monotonic() + RECOVERY_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def try_everything(world: Lab) -> list[Answer | str]:
    """Client and pod call out in every way that a socket can choose."""
    calls = []
    for version in VERSIONS:
        partner, pod = ADDRESSES.partner.of(version), ADDRESSES.pod.of(version)
        for protocol in ("tcp", "udp"):
            calls.append(("client", protocol, pod, 80))
            calls.append(("pod", protocol, partner, 80))
            calls.append(("pod", protocol, partner, 80, {"source": pod}))
            calls.append(("pod", protocol, partner, 80, {"device": "eth0"}))
            calls.append(("pod", protocol, partner, 80, {"device": "eth0", "source": pod}))
    return ask_all(world, calls, TRY_S)


@contextmanager
def nothing_leaves(world: Lab) -> Iterator[None]:
    """Not one packet to an outside address on the cluster link, in the body and after it."""
    with world.capture("pod", "eth0", OUTSIDE) as capture:
        yield
        assert capture.packets() == ()


def wait_until_answered(world: Lab) -> None:
    """Calls until client and pod reach the partner from the source in both families."""
    deadline = time.monotonic() + RECOVERY_S
    calls = [
        call
        for version in VERSIONS
        for call in (
            ("client", "tcp", ADDRESSES.pod.of(version), 80),
            ("pod", "udp", ADDRESSES.partner.of(version), 80),
        )
    ]
    while True:
        answers = ask_all(world, calls, 1.0)
        if all(isinstance(answer, Answer) for answer in answers):
            sources = {ADDRESSES.source.of(version) for version in VERSIONS}
            assert {answer.source for answer in answers} == sources
            return
        assert time.monotonic() < deadline, answers


@pytest.mark.parametrize("story", BREAKS)
def test_nothing_leaves_by_the_cluster_link(world: Lab, story: str) -> None:
    """Whatever becomes of the egress link, no socket gets a packet out by the cluster link."""
    with nothing_leaves(world):
        for line in BREAKS[story]:
            world.run("pod", ("ip", *line.split()))
        answers = [answer for answer in try_everything(world) if isinstance(answer, Answer)]
        # Without the address its NAT goes on, for as long as the gateway remembers who had it.
        if story != "addresses removed":
            assert answers == []
        assert {answer.source for answer in answers} <= set(map(ADDRESSES.source.of, VERSIONS))
    world.router(("init",), environment(world))
    wait_until_answered(world)


def test_sound_router_bars_the_cluster_link(world: Lab) -> None:
    """With everything in order, a socket bound to the cluster link still gets nothing out."""
    with nothing_leaves(world):
        answers = try_everything(world)
    reached = [answer for answer in answers if isinstance(answer, Answer)]
    assert len(reached) == len(answers) * 2 // 5  # the client's, and those that bind nothing
    assert {answer.source for answer in reached} == set(map(ADDRESSES.source.of, VERSIONS))


@pytest.mark.parametrize("version", VERSIONS)
def test_echo_requests_are_barred_too(world: Lab, version: int) -> None:
    """An echo request bound to the cluster link does not leave either."""
    with nothing_leaves(world):
        partner = str(ADDRESSES.partner.of(version))
        ping = ("ping", "-n", "-c", "1", "-W", "1", "-I", "eth0", partner)
        assert world.run("pod", ping, check=False).returncode != 0


@pytest.mark.parametrize("version", VERSIONS)
def test_older_connections_are_barred_too(lab: MakeLab, version: int) -> None:
    """A connection from before init does not go on by the cluster link."""
    world = lab(egress=Egress.PARENT)
    way_back = (str(ADDRESSES.pod_network.of(version)), "via", str(ADDRESSES.node.of(version)))
    world.run("gw", ("ip", "route", "add", *way_back))
    world.start_partner(udp=(80,))
    tracking = "table inet mesh { chain c { type filter hook output priority 0; ct state new; }; }"
    world.run("pod", ("nft", tracking))  # else the kernel tracks nothing before init
    argv = (*BARE_PYTHON, "-u", "-c", TALKER, str(ADDRESSES.partner.of(version)))
    talker = world.start("pod", argv, name="talker")
    talker.wait_for_line("answered")
    world.router(("init",), environment(world))
    with nothing_leaves(world):
        tried = talker.output().count("tried")
        wait_until(lambda: talker.output().count("tried") > tried + 3)


@pytest.mark.parametrize("story", BREAKS)
def test_daemon_repairs(world: Lab, story: str) -> None:
    """With NET_ADMIN the daemon mends it by itself, and meanwhile nothing leaves."""
    daemon = world.start_router(("redirect",), environment(world))
    wait_until_ready(world, daemon)
    with nothing_leaves(world):
        for line in BREAKS[story]:
            world.run("pod", ("ip", *line.split()))
        daemon.wait_for_line("drift_repaired")
        wait_until_answered(world)


@pytest.mark.parametrize(("host", "link"), [("node", "ens4"), ("lan", "node")])
def test_flap_of_the_parent_heals_alone(world: Lab, host: str, link: str) -> None:
    """When the node's NIC goes and comes back, traffic stops and flows again without privilege."""
    daemon = start_daemon(world, "redirect", {})
    with nothing_leaves(world):
        world.run(host, ("ip", "link", "set", link, "down"))
        answers = try_everything(world)
        assert all(isinstance(answer, str) for answer in answers), answers
        world.run(host, ("ip", "link", "set", link, "up"))
        wait_until_answered(world)
    wait_until_ready(world, daemon)
    assert world.router(("health",), {}, wrap=UNPRIVILEGED).returncode == 0
