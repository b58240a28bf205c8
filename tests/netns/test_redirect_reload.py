"""The destinations of redirect mode change while connections pass: who may do that, and how."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.privileges import INIT_CAPABILITIES, UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.world import Answer, Lab
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from egress_router.lab.process import Process

    MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

DEADLINE_S = 30.0
FIRST, SECOND, THIRD, LAST = (str(pair.v4) for pair in ADDRESSES.partners)
START = f"80 tcp {FIRST}\n8080 tcp {SECOND} 80\n8081 tcp {THIRD} 80\n8080 udp {FIRST} 80\n"
FILE = "EGRESS_DESTINATION_FILE"


class World:
    """A pod that init has set up from a mounted ConfigMap."""

    def __init__(self, lab: Lab, config: ConfigMap) -> None:
        self.lab = lab
        self.config = config
        self.environment = router_environment(
            lab.spec,
            EGRESS_CONFLICT="takeover",
            EGRESS_DESTINATION=None,
            **{FILE: str(config.file)},
        )
        lab.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
        lab.router(("init",), self.environment)
        self.sockets: list[socket.socket] = []

    def start(self, *, wrap: Sequence[str] = INIT_CAPABILITIES, told: bool = True) -> Process:
        """Starts the daemon and returns when it is ready."""
        environment = self.environment if told else {FILE: str(self.config.file)}
        daemon = self.lab.start_router(("redirect",), environment, wrap=wrap)
        wait_until_ready(self.lab, daemon)
        return daemon

    def server(self, port: int, protocol: str = "tcp", **more: Any) -> str:
        """The partner's address that a call reached, or the error's name."""
        answer = self.lab.ask("client", protocol, ADDRESSES.pod.v4, port, **more)
        return str(answer.local) if isinstance(answer, Answer) else answer

    def hold(self, port: int) -> socket.socket:
        """A client's open connection, the partner's line read."""
        with entered(f"/run/netns/{self.lab.namespace('client')}"):
            sock = socket.create_connection((str(ADDRESSES.pod.v4), port), timeout=10)
        self.sockets.append(sock)
        sock.recv(4096)
        return sock

    def status(self) -> dict[str, Any]:
        """What /status says of reloads."""
        return json.loads(self.lab.router(("status", "--json"), {}).stdout)["reload"]

    def wait_for(self, result: str, generation: int) -> dict[str, Any]:
        """The status once it is so."""
        end = time.monotonic() + DEADLINE_S
        while True:
            status = self.status()
            if (status["result"], status["generation"]) == (result, generation):
                return status
            assert time.monotonic() < end, status


def lives(sock: socket.socket) -> bool:
    """Whether the partner still answers."""
    try:
        sock.sendall(b"x")
        return sock.recv(1) == b"x"
    except ConnectionError:
        return False


@pytest.fixture
def world(lab: MakeLab) -> Iterator[World]:
    """A pod with four destinations."""
    with ConfigMap(START) as config:
        world = World(lab(), config)
        yield world
        for sock in world.sockets:
            sock.close()


def test_destinations_change_and_allowed_connections_go_on(world: World) -> None:
    """New connections follow the new list at once; what it does not lead to is forgotten."""
    daemon = world.start()
    stays, moves, goes = world.hold(80), world.hold(8080), world.hold(8081)
    assert world.server(8080, "udp", source_port=5555) == FIRST
    world.config.swap(
        f"80 tcp {FIRST}\n8080 tcp {FIRST} 80\n8080 udp {SECOND} 80\n8082 tcp {LAST} 80\n"
    )
    report = world.wait_for("applied", 2)
    assert report["changes"] == [
        f"tcp port 8081 (IPv4) removed, was to {THIRD} port 80",
        f"tcp port 8080 (IPv4) changed, to {FIRST} port 80 (line 2), was to {SECOND} port 80",
        f"udp port 8080 (IPv4) changed, to {SECOND} port 80 (line 3), was to {FIRST} port 80",
        f"tcp port 8082 (IPv4) added, to {LAST} port 80 (line 4)",
    ]
    assert world.server(8080) == FIRST
    assert world.server(8082) == LAST
    assert world.server(8081) == "ECONNREFUSED"
    assert world.server(8080, "udp", source_port=5555) == SECOND
    assert lives(stays)
    assert not lives(moves)
    assert not lives(goes)
    assert json.loads(daemon.wait_for_line("reload_applied"))["ended"] == 3
    assert "drift_found" not in daemon.output()


def test_a_wrong_list_leaves_the_nat_as_it_was(world: World) -> None:
    """The problems are those that `check` prints; nothing is loaded."""
    world.start()
    table = ("nft", "list", "table", "inet", "egress_router")
    before = world.lab.run("pod", table).stdout
    world.config.swap(f"80 tcp {FIRST}\n80 tcp {SECOND}\nx\n")
    report = world.wait_for("refused", 1)
    checked = world.lab.router(("check", "init"), world.environment, check=False)
    assert report["problems"] == [
        line.removeprefix("error: ") for line in checked.stderr.splitlines()
    ]
    assert len(report["problems"]) == 2
    after = world.lab.run("pod", table).stdout
    assert strip_counts(after) == strip_counts(before)


def strip_counts(listing: str) -> list[str]:
    """A listing without what its counters counted."""
    return [line for line in listing.splitlines() if "packets" not in line]


@pytest.mark.parametrize(
    ("wrap", "told", "lacking"),
    [
        (UNPRIVILEGED, True, "lacks the capability NET_ADMIN;"),
        (INIT_CAPABILITIES, False, "lacks init's variables"),
        (UNPRIVILEGED, False, "lacks the capability NET_ADMIN and init's variables"),
    ],
)
def test_a_daemon_that_may_not_says_what_it_lacks(
    world: World, wrap: Sequence[str], told: bool, lacking: str
) -> None:
    """The NAT stays; the line names what is lacking and the remedy; a wrong list is still told."""
    daemon = world.start(wrap=wrap, told=told)
    held = world.hold(8081)
    world.config.swap(f"80 tcp {SECOND}\n")
    (problem,) = world.wait_for("unsupported", 1)["problems"]
    assert lacking in problem
    assert "Delete the pod" in problem
    assert world.server(80) == FIRST
    assert lives(held)
    world.config.swap("80 tcp nobody\n")
    (problem,) = world.wait_for("refused", 1)["problems"]
    assert "line 1" in problem
    world.config.swap(START)
    world.wait_for("applied", 1)
    assert daemon.running


def test_a_list_that_changed_before_the_daemon_started(world: World) -> None:
    """The table tells by its digest which list init loaded: the daemon's own takes its place."""
    held = world.hold(8081)
    world.config.swap(f"80 tcp {SECOND}\n")
    daemon = world.start()
    line = json.loads(daemon.wait_for_line("drift_repaired"))
    assert "another configuration" in line["detail"]
    assert world.server(80) == SECOND
    assert not lives(held)


def test_a_change_that_cannot_be_made_is_tried_again(world: World) -> None:
    """Without its link nothing can be loaded: refused with the reason, in force once it is back."""
    world.start()
    rename = ("ip", "link", "set", "dev")
    world.lab.run("pod", (*rename, "macvlan0", "down", "name", "other0"))
    world.config.swap(f"80 tcp {SECOND}\n")
    (problem,) = world.wait_for("refused", 1)["problems"]
    assert "other0 is down" in problem
    world.lab.run("pod", (*rename, "other0", "name", "macvlan0"))
    world.wait_for("applied", 2)
    assert world.server(80) == SECOND


def test_signals_and_restarts_leave_the_nat_alone(world: World) -> None:
    """SIGPIPE, SIGUSR1, SIGUSR2 and SIGHUP change nothing; after SIGKILL another takes over."""
    daemon = world.start()
    held = world.hold(80)
    for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        daemon.signal(number)
    assert world.wait_for("applied", 1)["source"] == "SIGHUP"
    for _ in range(3):
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        assert lives(held)
        assert world.server(8080) == SECOND
        daemon = world.start()
    assert lives(held)
