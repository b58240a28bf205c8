"""The list of ports changes while the forwarder serves: what its clients see of it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import INIT_CAPABILITIES, UNPRIVILEGED
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.netns.dns.conftest import Forwarder

    Build = Callable[..., Forwarder]
    Until = Callable[..., float]

pytestmark = pytest.mark.netns

NAME = "www.partner.test"
FIRST, SECOND, THIRD, _ = (str(pair.v4) for pair in ADDRESSES.partners)
START = f"8080 {NAME} 80\n8081 {SECOND} 80\n8082 {THIRD} 80\n"


class Held:
    """A client's connection to a port; the partner's line is what it got first."""

    def __init__(self, router: Forwarder, port: int) -> None:
        with entered(f"/run/netns/{router.lab.namespace('client')}"):
            self._sock = socket.create_connection((str(ADDRESSES.pod.v4), port), timeout=10)
        self.server = json.loads(self._sock.recv(4096))["local"]

    def lives(self) -> bool:
        """Whether the partner still answers."""
        try:
            self._sock.sendall(b"x")
            return self._sock.recv(1) == b"x"
        except ConnectionError:
            return False

    def close(self) -> None:
        """Ends it."""
        self._sock.close()


class World:
    """A forwarder whose list is a mounted ConfigMap."""

    def __init__(self, router: Forwarder, config: ConfigMap) -> None:
        self.router = router
        self.config = config
        self.held: list[Held] = []

    def hold(self, port: int) -> Held:
        """Opens a connection."""
        held = Held(self.router, port)
        self.held.append(held)
        return held

    def reload(self, text: str, until: Until, *, result: str = "applied") -> dict[str, Any]:
        """Swaps the list, and waits until the daemon says what became of it."""
        before = self.router.status()["reload"]["generation"]
        after = before + 1 if result == "applied" else before
        self.config.swap(text)

        def done() -> bool:
            told = self.router.status()["reload"]
            return (told["result"], told["generation"]) == (result, after)

        until(done)
        return self.router.status()["reload"]


@pytest.fixture(params=["userspace", "two processes", "kernel"])
def world(request: pytest.FixtureRequest, forwarder: Build) -> Iterator[World]:
    """Three ports, by either data path, in userspace by one process or two."""
    router = forwarder()
    router.serve_names(f"{NAME}. 60 IN A {FIRST}", f"new.test. 60 IN A {THIRD}")
    router.init()
    wrap = INIT_CAPABILITIES if request.param == "kernel" else UNPRIVILEGED
    with ConfigMap(START) as config:
        variables = {
            "EGRESS_DNS_PROXY_DESTINATION_FILE": str(config.file),
            "EGRESS_DNS_PROXY_DATAPATH": "kernel" if request.param == "kernel" else "userspace",
            "EGRESS_WORKERS": "2" if request.param == "two processes" else "1",
        }
        router.start("", wrap=wrap, **variables)
        world = World(router, config)
        yield world
        for held in world.held:
            held.close()


def test_ports_come_go_and_lead_elsewhere(world: World, until: Until) -> None:
    """Connections of unchanged lines go on, others end, and new lines work."""
    router = world.router
    until(lambda: router.server(8080) == FIRST)
    stays, moves, goes = world.hold(8080), world.hold(8081), world.hold(8082)
    assert (stays.server, moves.server, goes.server) == (FIRST, SECOND, THIRD)
    text = f"# moved\n8080 {NAME} 80\n8081 {FIRST} 80\n8083 new.test 80\n"
    report = world.reload(text, until)
    assert report["changes"] == [
        f"tcp port 8082 removed, was to {THIRD} port 80",
        f"tcp port 8081 changed, to {FIRST} port 80 (line 3), was to {SECOND} port 80",
        "tcp port 8083 added, to new.test port 80 (line 4)",
    ]
    assert router.server(8080) == FIRST
    assert router.server(8081) == FIRST
    until(lambda: router.server(8083) == THIRD)
    until(lambda: router.server(8082) == "ECONNREFUSED")
    assert stays.lives()
    assert not moves.lives()
    assert not goes.lives()
    assert {row["port"] for row in router.status()["ports"]} == {8080, 8081, 8083}
    assert {row["name"] for row in router.status()["names"]} == {NAME, FIRST, "new.test"}
    assert router.lines("reload_applied")[0]["ended"] == 2


def test_a_connection_stays_where_the_new_line_leads_there_too(world: World, until: Until) -> None:
    """A name instead of its address ends nothing, and refuses nobody."""
    router = world.router
    until(lambda: router.server(8082) == THIRD)
    stays = world.hold(8082)
    world.reload(START.replace(f"8082 {THIRD}", "8082 new.test"), until)
    assert stays.lives()
    assert router.server(8082) == THIRD


def test_a_refused_list_leaves_everything_as_it_was(world: World, until: Until) -> None:
    """A wrong line, and a port that somebody else has: named, and nothing has changed."""
    router = world.router
    until(lambda: router.server(8081) == SECOND)
    stays = world.hold(8081)
    (problem,) = world.reload("8081 x\n", until, result="refused")["problems"]
    assert "line 1: Bad destination '8081 x'" in problem
    with entered(f"/run/netns/{router.lab.namespace('pod')}"):
        taken = socket.create_server(("0.0.0.0", 8090))
    with taken:
        world.config.swap(f"8081 {FIRST} 80\n8090 {FIRST} 80\n")
        until(lambda: "8090" in str(router.status()["reload"]["problems"]))
    assert stays.lives()
    assert router.server(8081) == SECOND
    assert router.status()["reload"]["generation"] == 1


def test_a_name_that_nobody_knows_does_not_hold_the_others_up(world: World, until: Until) -> None:
    """Its port refuses; the rest of the new list is in force within seconds."""
    world.reload(f"8080 {NAME} 80\n8084 never.test 80\n", until)
    assert world.router.server(8080) == FIRST
    assert world.router.server(8084) == "ECONNREFUSED"


@pytest.mark.parametrize("world", ["kernel"], indirect=True)
def test_datagrams_follow_the_list_too(world: World, until: Until) -> None:
    """A flow of one source port goes where the new line leads; without a line it is refused."""
    router = world.router
    router.lab.start_partner(udp=(81,))

    def server() -> str:
        answer = router.lab.ask("client", "udp", ADDRESSES.pod.v4, 8085, source_port=5555)
        return answer if isinstance(answer, str) else str(answer.local)

    world.reload(f"{START}8085 udp {FIRST} 81\n", until)
    assert server() == FIRST
    world.reload(f"{START}8085 udp {SECOND} 81\n", until)
    assert server() == SECOND
    world.reload(START, until)
    assert server() == "ECONNREFUSED"


@pytest.mark.parametrize("world", ["userspace"], indirect=True)
def test_datagrams_need_the_kernels_path(world: World, until: Until) -> None:
    """A list that the daemon's data path cannot carry is refused with the words of `check`."""
    (problem,) = world.reload(f"{START}8085 udp {FIRST} 81\n", until, result="refused")["problems"]
    assert "udp takes the kernel's data path" in problem
