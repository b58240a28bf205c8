"""The redirect daemon: what it needs, what it notices, how it ends, and what does not need it."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.privileges import UNPRIVILEGED, UNPRIVILEGED_UID
from egress_router.lab.process import Process
from egress_router.lab.runner import start_daemon, wait_until_ready
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

FLUSH_S, LINK_S = 5.0, 2.0  # how soon a fault must show (F11)
STOP_S = 1.0
ADMIN_PORT = 9090
AS_PID_1 = ("unshare", "--pid", "--fork", "--mount-proc")
NET_RAW_ALONE = ("setpriv", "--bounding-set=-all,+net_raw")
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=2).read().decode())"


def set_up(world: Lab, **changes: str | None) -> dict[str, str]:
    """Runs init, with the partner listening; returns the environment it had."""
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    environment = router_environment(world.spec, EGRESS_CONFLICT="takeover", **changes)
    world.router(("init",), environment)
    return environment


@pytest.fixture
def world(lab: MakeLab) -> Lab:
    """A dual-stack pod, set up."""
    world = lab()
    set_up(world)
    return world


def assert_traffic_flows(world: Lab) -> None:
    """The client reaches the partner from the source in both families."""
    for version in (4, 6):
        seen = world.ask("client", "tcp", ADDRESSES.pod.of(version), 80)
        assert isinstance(seen, Answer), seen
        assert seen.source == ADDRESSES.source.of(version)


def status(process: int) -> dict[str, str]:
    """What the kernel says about a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def only_child(process: Process) -> int:
    """The one child of a process."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def test_ready_without_privilege(world: Lab) -> None:
    """As another uid, without a capability and without a variable, it becomes ready."""
    daemon = start_daemon(world, "redirect", {})
    seen = status(daemon.pid)
    assert seen["Uid"].split() == [str(UNPRIVILEGED_UID)] * 4
    assert int(seen["CapEff"], 16) == 0
    assert world.router(("health", "redirect"), {}, wrap=UNPRIVILEGED).returncode == 0
    assert_traffic_flows(world)


@pytest.mark.parametrize(
    ("commands", "limit_s", "reason"),
    [
        (("nft delete table inet egress_router",), FLUSH_S, "nftables table"),
        (("nft flush ruleset",), FLUSH_S, "nftables table"),
        (("ip link set macvlan0 down",), LINK_S, "macvlan0 is down"),
        (("ip link del macvlan0",), LINK_S, "macvlan0 is gone"),
        (
            (f"ip addr del {ADDRESSES.source.v4}/24 dev macvlan0",),
            LINK_S,
            f"source {ADDRESSES.source.v4}/24 is not on macvlan0",
        ),
        (
            (f"ip addr del {ADDRESSES.source.v6}/64 dev macvlan0",),
            LINK_S,
            f"source {ADDRESSES.source.v6}/64 is not on macvlan0",
        ),
        (("ip route del default",), LINK_S, f"default via {ADDRESSES.gateway.v4} dev macvlan0"),
        (("ip rule del priority 8686",), LINK_S, "priority 8686"),
        (("ip link set eth0 down",), LINK_S, "cluster link eth0 is down"),
    ],
)
def test_faults_show(lab: MakeLab, commands: tuple[str, ...], limit_s: float, reason: str) -> None:
    """Without privilege it turns not ready in time, names the cause, and repairs nothing."""
    world = lab()
    set_up(world)
    # The table has no events of its own; everything else must not wait for the next look.
    settings = {} if limit_s == FLUSH_S else {"EGRESS_WATCH_SECONDS": "60"}
    daemon = start_daemon(world, "redirect", settings)
    start = time.monotonic()
    for command in commands:
        world.run("pod", command.split())
    daemon.wait_for_line("daemon_not_ready")
    daemon.wait_for_line(reason)
    assert time.monotonic() - start < limit_s
    health = world.router(("health",), {}, wrap=UNPRIVILEGED, check=False)
    assert health.returncode == 1
    assert reason in health.stderr


def test_ready_again(world: Lab) -> None:
    """When init has run again, the daemon is ready again by itself."""
    daemon = start_daemon(world, "redirect", {})
    world.run("pod", ("nft", "flush", "ruleset"))
    daemon.wait_for_line("daemon_not_ready")
    world.router(("init",), router_environment(world.spec))
    wait_until_ready(world, daemon)
    assert_traffic_flows(world)


def test_before_init(lab: MakeLab) -> None:
    """In a pod that is not set up it waits, not ready, says so, and is ready once init has run."""
    world = lab()
    daemon = world.start_router(("redirect",), {}, wrap=UNPRIVILEGED)
    assert "has init run in this pod?" in daemon.wait_for_line("daemon_not_ready")
    set_up(world)
    wait_until_ready(world, daemon)


def test_changed_source_is_followed(world: Lab) -> None:
    """When init runs again with another source, a daemon that was told nothing follows it."""
    daemon = start_daemon(world, "redirect", {})
    changed = router_environment(
        world.spec, EGRESS_SOURCE="192.168.12.98/24,2001:db8:12::98/64", EGRESS_CONFLICT="takeover"
    )
    world.router(("init",), changed)
    wait_until_ready(world, daemon)
    told = world.router(("status", "--json"), {}, wrap=UNPRIVILEGED).stdout
    assert json.loads(told)["source"] == "192.168.12.98, 2001:db8:12::98"


@pytest.mark.parametrize("wrap", [(), AS_PID_1], ids=["child", "pid 1"])
@pytest.mark.parametrize("mode", ["redirect", "legacy"])
def test_ends_at_once(lab: MakeLab, mode: str, wrap: tuple[str, ...]) -> None:
    """SIGTERM ends it within a second with exit code 0, as the container's first process too."""
    world = lab()
    environment = set_up(world)
    if mode == "legacy":
        words, environment = ("init",), environment | {"EGRESS_ROUTER_MODE": "legacy"}
    else:
        words = ("redirect",)
    daemon = world.start_router(words, environment, wrap=wrap)
    daemon.wait_for_line("daemon_started")
    wait_until_ready(world, daemon)
    pid = only_child(daemon) if wrap else daemon.pid
    start = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert daemon.wait(5) == 0, daemon.tail()
    assert time.monotonic() - start < STOP_S
    assert_traffic_flows(world)


def test_killed_daemon_is_not_missed(world: Lab) -> None:
    """After SIGKILL the NAT goes on, and another daemon takes over without a trace of the first."""
    daemon = start_daemon(world, "redirect", {})
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL
    assert_traffic_flows(world)
    start_daemon(world, "redirect", {})


def test_legacy_is_init_and_daemon(lab: MakeLab) -> None:
    """`legacy` sets the pod up and stays as the daemon, which repairs with init's privileges."""
    world = lab()
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    environment = router_environment(world.spec, EGRESS_ROUTER_MODE="legacy")
    daemon = world.start_router(("init",), environment)
    wait_until_ready(world, daemon)
    assert_traffic_flows(world)
    world.run("pod", ("nft", "flush", "ruleset"))
    daemon.wait_for_line("drift_repaired")
    wait_until_ready(world, daemon)
    assert_traffic_flows(world)


def test_admin_port(lab: MakeLab) -> None:
    """It answers the cluster, is exempt from the fallback, and is closed to the outside network."""
    world = lab()
    set_up(world, EGRESS_ADMIN_PORT=str(ADMIN_PORT))
    start_daemon(world, "redirect", {"EGRESS_ADMIN_PORT": str(ADMIN_PORT)})
    for version in (4, 6):
        pod, source = ADDRESSES.pod.of(version), ADDRESSES.source.of(version)
        host = f"[{pod}]" if version == 6 else str(pod)
        for path, words in (("readyz", "ready"), ("metrics", "egress_router_ready 1.0")):
            url = f"http://{host}:{ADMIN_PORT}/{path}"
            assert words in world.run("client", (*BARE_PYTHON, "-c", FETCH, url)).stdout
        hop = (f"{pod}/{pod.max_prefixlen}", "via", str(source))
        world.run("outsider", ("ip", "route", "add", *hop))
        answered = f"tcp and dst host {ADDRESSES.outsider.of(version)}"
        with (
            world.capture("pod", "eth0", answered) as inside,
            world.capture("pod", "macvlan0", answered) as outside,
        ):
            for target in (pod, source):
                answer = world.ask("outsider", "tcp", target, ADMIN_PORT, timeout=0.3)
                assert isinstance(answer, str), answer
            assert inside.packets() == outside.packets() == ()


@pytest.mark.parametrize(("interval", "wanted"), [("1", 3), ("0", 0)])
def test_announces_again(world: Lab, interval: str, wanted: int) -> None:
    """With NET_RAW it announces the address at the interval it was told, and never with 0."""
    announced = f"arp and arp[14:4] = arp[24:4] and src host {ADDRESSES.source.v4}"
    environment = {"EGRESS_ANNOUNCE_SECONDS": interval, "EGRESS_WATCH_SECONDS": "0.5"}
    with world.capture("outsider", "eth0", announced) as capture:
        daemon = world.start_router(("redirect",), environment, wrap=NET_RAW_ALONE)
        wait_until_ready(world, daemon)
        deadline = time.monotonic() + (10 if wanted else 2.5)
        while len(capture.packets()) < 3 and time.monotonic() < deadline:
            world.run("outsider", ("sleep", "0.2"))
        assert min(len(capture.packets()), 3) == wanted
