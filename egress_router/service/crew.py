"""The first process' view of its workers: what they tell, and what they are told.

1. A worker begins to serve when the first process does, and ends with it.
2. A worker that ends by itself, or answers nothing for DEAD_S, ends the daemon with exit code 1.
3. The daemon is ready when every worker is, and has the list in force that the daemon has.
4. They accept from the sockets that the first process has opened (listening.py).
5. What workers have counted is asked for when somebody wants to know. Who does not answer within
   WAIT_S is told of as it was, with a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from egress_router.errors import KernelError
from egress_router.service import events
from egress_router.service.channel import Channel, Fields
from egress_router.service.listening import CLOSED, OPEN, decode_binding, pass_sockets
from egress_router.service.logs import log_event
from egress_router.service.merging import decode_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.config.settings import Environment
    from egress_router.service.health import Readiness
    from egress_router.service.lifecycle import Lifecycle
    from egress_router.service.listening import OpenedSockets
    from egress_router.service.metric_registry import Values
    from egress_router.service.metrics import Metric
    from egress_router.service.parting import Member

CONDITION = "workers"
WAIT_S = 1.0
PULSE_S = 2.0  # as often as a daemon looks at the network
SILENT_S = 5.0  # longer than anything a worker does in one turn of its loop
DEAD_S = 30.0  # ten failed probes of the usual kind
RELOAD_S = 20.0  # a list of a hundred thousand lines on a processor that is shared
END_S = 2.0  # for workers to cut what is open, and to write its lines, before they are killed
LAST_LINES_S = 1.0  # from the end of the channel to the process' own; it writes its last lines
LOOK_S = 0.002
_NOT_YET = "does not serve yet"


class _Worker:
    """What is known of one of them. `trouble`: why it is not ready, None if it is."""

    def __init__(self, member: Member, sockets: OpenedSockets) -> None:
        self.number = member.number
        self.pid = member.pid
        handlers = {"ready": self.hear, OPEN: self.lend, CLOSED: self.take_back}
        self.channel = Channel(member.sock, handlers)
        self._passing = member.passing
        self._sockets = sockets
        self.ended = asyncio.Event()
        self.trouble: str | None = _NOT_YET
        self.behind = ""
        self.silent = False
        self.facts: Fields = {}
        self.on_change: Callable[[], None] = lambda: None

    async def hear(self, message: Fields) -> None:
        """It says whether it is ready."""
        self.trouble = "; ".join(message["reasons"]) or None
        self.on_change()

    async def lend(self, message: Fields) -> Fields:
        """It wants to listen somewhere."""
        if self.channel.gone:  # its last words were heard with its end
            return {}
        binding = decode_binding(message["binding"])
        try:
            sockets = self._sockets.lend(binding, self.number)
        except KernelError as error:
            return {"problem": str(error)}
        await pass_sockets(self._passing, binding, sockets)
        return {}

    async def take_back(self, message: Fields) -> None:
        """It does not listen there any more."""
        self._sockets.take_back(decode_binding(message["binding"]), self.number)

    def lose(self) -> None:
        """It is gone: it listens nowhere any more."""
        self._sockets.take_all_back(self.number)

    @property
    def reason(self) -> str | None:
        """Why the daemon is not ready because of it."""
        if self.silent:
            return f"worker {self.number} does not answer"
        if self.behind:
            return f"worker {self.number} has the old list in force: {self.behind}"
        return self.trouble and f"worker {self.number}: {self.trouble}"


class Crew:
    """The workers of a daemon; made and used by its first process."""

    def __init__(
        self,
        members: Sequence[Member],
        lifecycle: Lifecycle,
        readiness: Readiness,
        sockets: OpenedSockets,
    ) -> None:
        self._lifecycle = lifecycle
        self._readiness = readiness
        self._workers = tuple(_Worker(member, sockets) for member in members)
        self._ending = False
        self._gathering: asyncio.Task[None] | None = None
        readiness.declare(CONDITION, _NOT_YET)
        for worker in self._workers:
            worker.on_change = self._judge
            lifecycle.tasks.start_vital(f"worker {worker.number}", self._follow(worker))
        lifecycle.tasks.start_vital("workers", self._feel_pulses())
        lifecycle.on_drain(lambda: self._tell("drain"))
        lifecycle.on_cut(self._cut)

    def begin(self) -> None:
        """The daemon serves: they serve too."""
        self._tell("serve")

    async def gather(self) -> None:
        """Brings up to date what they have counted."""
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.create_task(self._gather(), name="workers' facts")
        await asyncio.shield(self._gathering)

    def values(self, metric: Metric) -> list[Values]:
        """What each of them has counted, as of the last gathering."""
        told = (worker.facts.get("metrics", {}) for worker in self._workers)
        return [decode_values(metrics[metric.name]) for metrics in told if metric.name in metrics]

    def parts(self, name: str) -> list[dict[str, Any]]:
        """What each of them tells of a part of /status, as of the last gathering."""
        told = (worker.facts.get("status", {}) for worker in self._workers)
        return [parts[name] for parts in told if name in parts]

    def rows(self) -> list[dict[str, Any]]:
        """The workers as /status tells them."""
        return [
            {
                "worker": worker.number,
                "pid": worker.pid,
                "state": worker.reason or "ok",
                **worker.facts.get("process", {}),
            }
            for worker in self._workers
        ]

    def warnings(self) -> list[str]:
        """Whose numbers are old."""
        return [
            f"worker {worker.number} (pid {worker.pid}) does not answer; what is told of it is old"
            for worker in self._workers
            if worker.silent
        ]

    async def reload(self, environment: Environment) -> int:
        """Has all of them put in force what is; how many connections they ended for it."""
        return sum(await asyncio.gather(*(self._reload(w, environment) for w in self._workers)))

    async def ended(self) -> None:
        """Returns when all of them have ended."""
        self._ending = True
        for worker in self._workers:
            await worker.ended.wait()

    async def close(self) -> None:
        """Ends them all, whatever they do."""
        self._cut()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self.ended()
        for worker in self._workers:
            if not worker.ended.is_set():
                _kill(worker.pid)

    def _tell(self, do: str) -> None:
        self._ending = self._ending or do != "serve"
        for worker in self._workers:
            worker.channel.tell(do)

    def _cut(self) -> None:
        self._tell("cut")

    async def _follow(self, worker: _Worker) -> None:
        """Hears one of them until it has ended."""
        await worker.channel.serve()
        worker.lose()
        code = await _collect(worker.pid)
        worker.ended.set()
        if self._ending:
            await asyncio.Event().wait()  # as it should be: this task may end with the daemon
        log_event(events.WORKER_ENDED, worker=worker.number, pid=worker.pid, exit_code=code)

    async def _feel_pulses(self) -> None:
        while True:
            await asyncio.sleep(PULSE_S)
            await asyncio.gather(*map(self._feel_pulse, self._workers))

    async def _feel_pulse(self, worker: _Worker) -> None:
        for patience_s in (SILENT_S, DEAD_S - SILENT_S):
            try:
                await worker.channel.ask("pulse", patience_s)
            except TimeoutError:
                if worker.ended.is_set():
                    return
                self._note_silence(worker, silent=True)
            else:
                self._note_silence(worker, silent=False)
                return
        log_event(events.WORKER_SILENT, worker=worker.number, pid=worker.pid, seconds=DEAD_S)
        _kill(worker.pid)

    def _note_silence(self, worker: _Worker, *, silent: bool) -> None:
        if worker.silent != silent:
            worker.silent = silent
            self._judge()

    def _judge(self) -> None:
        reasons = [worker.reason for worker in self._workers if worker.reason]
        starting = [worker for worker in self._workers if worker.trouble == _NOT_YET]
        if len(reasons) > len(starting) or not starting:  # a start is no news
            self._readiness.update({CONDITION: "; ".join(reasons) or None})

    async def _gather(self) -> None:
        try:
            await asyncio.gather(*map(self._ask, self._workers))
        finally:
            self._gathering = None

    async def _ask(self, worker: _Worker) -> None:
        try:
            worker.facts = await worker.channel.ask("facts", WAIT_S)
        except TimeoutError:
            if not worker.ended.is_set():
                self._note_silence(worker, silent=True)
        else:
            self._note_silence(worker, silent=False)

    async def _reload(self, worker: _Worker, environment: Environment) -> int:
        files, unreadable = dict(environment.files), dict(environment.unreadable)
        try:
            answer = await worker.channel.ask(
                "reload", RELOAD_S, files=files, unreadable=unreadable
            )
        except TimeoutError:
            answer = {"problem": "it does not answer"}
        worker.behind = answer.get("problem", "")
        if worker.behind:
            log_event(events.WORKER_BEHIND, worker=worker.number, reason=worker.behind)
        self._judge()
        return int(answer.get("ended", 0))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _collect(pid: int) -> int:
    """The exit code of a child that is about to end, or is made to; negative: the signal."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LAST_LINES_S
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
        except ChildProcessError:
            return 0  # PID 1's reaper was faster
        if done:
            return os.waitstatus_to_exitcode(status)
        if loop.time() > deadline:
            _kill(pid)
        await asyncio.sleep(LOOK_S)
