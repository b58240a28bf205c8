"""The first process' view of its workers; the test plays them, at the channel's other end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.config.settings import Environment
from egress_router.service import crew as crew_module
from egress_router.service.channel import Channel
from egress_router.service.crew import CONDITION, Crew
from egress_router.service.health import Readiness
from egress_router.service.lifecycle import Lifecycle
from egress_router.service.listening import OpenedSockets
from egress_router.service.metrics import HTTP_ACTIVE, HTTP_BYTES
from egress_router.service.parting import Member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

DEADLINE_S = 10.0
NOBODY = 1 << 23  # above every pid that Linux gives (PID_MAX_LIMIT)
NEW = Environment(variables={}, files={"/list": "*\n"})


class Played:
    """A worker that answers as the test wants, and notes what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.told: list[str] = []
        self.reload: dict[str, Any] = {"ended": 3}
        self.facts: dict[str, Any] = {}
        self.deaf = asyncio.Event()
        names = ("serve", "drain", "cut", "reload", "facts", "pulse")
        self.channel = Channel(sock, dict.fromkeys(names, self.answer))

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Anything it is told or asked."""
        self.told.append(message["do"])
        if self.deaf.is_set():
            await asyncio.Event().wait()
        return {"reload": self.reload, "facts": self.facts}.get(message["do"], {})


class Stage:
    """A crew of played workers, and the readiness of their daemon."""

    def __init__(self, count: int) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        seqpacket = socket.SOCK_SEQPACKET
        passing = [socket.socketpair(socket.AF_UNIX, seqpacket) for _ in range(count)]
        for sock in (sock for pair in (*pairs, *passing) for sock in pair):
            sock.setblocking(False)
        self.lifecycle = Lifecycle("test", steered=True)
        self.readiness = Readiness("test")
        members = [
            Member(number=number, pid=NOBODY + number, sock=ours, passing=giving)
            for number, ((ours, _), (giving, _)) in enumerate(zip(pairs, passing, strict=True), 1)
        ]
        self.passing = list(chain(*passing))
        self.sockets = OpenedSockets()
        self.crew = Crew(members, self.lifecycle, self.readiness, self.sockets)
        self.workers = [Played(theirs) for _, theirs in pairs]
        self.tasks = [asyncio.ensure_future(one.channel.serve()) for one in self.workers]

    @property
    def reason(self) -> str | None:
        """Why the condition of the workers fails."""
        found = {one.name: one.reason for one in self.readiness.snapshot().conditions}
        return found[CONDITION]

    async def until(self, what: Callable[[], Any]) -> None:
        """Waits for something that the other end brings about."""
        while not what():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)

    def say(self, worker: int, *reasons: str) -> None:
        """A worker tells why it is not ready, if it is not."""
        self.workers[worker].channel.tell("ready", reasons=reasons)


@contextlib.asynccontextmanager
async def stage(count: int = 2) -> AsyncIterator[Stage]:
    """A crew that ends with the test."""
    one = Stage(count)
    try:
        yield one
    finally:
        await one.lifecycle.tasks.end(1)
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)
        for sock in one.passing:
            sock.close()
        one.lifecycle.lag.stop()


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a scene, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(bounded())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the crew writes to the log."""
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        crew_module, "log_event", lambda event, **fields: lines.append((event.name, fields))
    )
    return lines


def test_the_daemon_is_ready_when_every_worker_is() -> None:
    """Each that is not is named with its reasons; one that has not begun yet is waited for."""

    async def scene() -> None:
        async with stage() as one:
            one.say(0)
            one.say(1, "link: is down", "listener: port 8080 is taken")
            await one.until(lambda: one.reason != "does not serve yet")
            assert one.reason == "worker 2: link: is down; listener: port 8080 is taken"
            one.say(1)
            await one.until(lambda: one.reason is None)
            assert one.readiness.ready

    run(scene)


def test_a_worker_that_cannot_follow_a_reload(logged: list[tuple[str, dict[str, Any]]]) -> None:
    """The daemon is not ready and says why, until a later reload reaches that worker too."""

    async def scene() -> None:
        async with stage() as one:
            one.say(0)
            one.say(1)
            one.workers[1].reload = {"problem": "port 80 is taken"}
            assert await one.crew.reload(NEW) == 3
            assert one.reason == "worker 2 has the old list in force: port 80 is taken"
            assert logged == [("worker_behind", {"worker": 2, "reason": "port 80 is taken"})]
            one.workers[1].reload = {"ended": 4}
            assert await one.crew.reload(NEW) == 7
            assert one.reason is None

    run(scene)


def test_one_that_does_not_answer_is_told_of_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last numbers stay in the sums, with a warning; they are its own again when it answers."""
    monkeypatch.setattr(crew_module, "WAIT_S", 0.05)

    async def scene() -> None:
        async with stage() as one:
            for number, worker in enumerate(one.workers, 1):
                one.say(number - 1)
                worker.facts = {"metrics": {HTTP_ACTIVE.name: [[["tunnel"], number]]}}
            await one.crew.gather()
            assert one.crew.values(HTTP_ACTIVE) == [{("tunnel",): 1}, {("tunnel",): 2}]
            assert one.crew.values(HTTP_BYTES) == []
            assert one.crew.warnings() == []
            one.workers[1].facts = {"metrics": {HTTP_ACTIVE.name: [[["tunnel"], 9]]}}
            one.workers[1].deaf.set()
            await one.crew.gather()
            assert one.crew.values(HTTP_ACTIVE) == [{("tunnel",): 1}, {("tunnel",): 2}]
            (warning,) = one.crew.warnings()
            assert warning.startswith("worker 2 ")
            assert one.reason == "worker 2 does not answer"
            one.workers[1].deaf.clear()
            await one.crew.gather()
            assert one.crew.values(HTTP_ACTIVE)[1] == {("tunnel",): 9}
            assert (one.crew.warnings(), one.reason) == ([], None)

    run(scene)


def test_workers_are_told_what_the_daemon_does() -> None:
    """To serve, to drain and to cut, each once and in this order, even before they listen."""

    async def scene() -> None:
        async with stage(1) as one:
            one.crew.begin()
            one.lifecycle.drain("SIGTERM")
            closing = asyncio.ensure_future(one.crew.close())
            await one.until(lambda: len(one.workers[0].told) == 3)
            assert one.workers[0].told == ["serve", "drain", "cut"]
            one.tasks[0].cancel()  # its end of the channel closes
            await closing
            assert not one.lifecycle._vital_failed.done()

    run(scene)


def test_a_worker_that_ends_by_itself(logged: list[tuple[str, dict[str, Any]]]) -> None:
    """It is told of, and the daemon ends as for any part that must not end."""

    async def scene() -> None:
        async with stage() as one:
            one.crew.begin()
            await one.until(lambda: one.workers[1].told)
            one.tasks[1].cancel()
            await one.until(one.lifecycle._vital_failed.done)
            ((name, fields),) = logged
            assert (name, fields["worker"]) == ("worker_ended", 2)

    run(scene)
