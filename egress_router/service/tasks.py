"""Background tasks: each has a name and a guard, and none ends unseen.

Two kinds. A *vital* task (a watcher, an announcer) never ends before the daemon does; if it does,
by an exception or just so, that is logged and the daemon ends with exit code 1: a fresh start by
the kubelet is better than a daemon that has lost a limb. A *handler* (one connection, one request)
may fail: that is logged, and nothing else is touched.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from egress_router.service.events import HANDLER_FAILED, LOOP_ERROR, TASK_FAILED
from egress_router.service.logs import describe_error, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_KINDS_LIMIT = 100  # distinct errors remembered by the limiter; beyond that it forgets them all


class Tasks:
    """The tasks of one daemon; `on_vital_end` is called once for each vital task that ends."""

    def __init__(self, on_vital_end: Callable[[], None]) -> None:
        self._on_vital_end = on_vital_end
        self._running: set[asyncio.Task[None]] = set()
        self._ending = False
        self.failed_handlers = 0

    def __len__(self) -> int:
        return len(self._running)

    def start_vital(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that must live as long as the daemon."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._vital_done)
        return task

    def start_handler(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task whose failure concerns nobody but its own connection."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._handler_done)
        return task

    def dismiss(self, task: asyncio.Task[None]) -> None:
        """Ends a vital task that is no longer needed; its end is no failure."""
        task.remove_done_callback(self._vital_done)
        task.add_done_callback(self._running.discard)
        task.cancel()

    async def end(self, timeout_s: float) -> None:
        """Cancels what still runs and waits for it, for no longer than that."""
        self._ending = True
        if running := tuple(self._running):
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=timeout_s)

    def _vital_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._ending:
            return
        reason = describe_error(error) if error else {"error": "it ended by itself"}
        log_event(TASK_FAILED, task=task.get_name(), **reason)
        self._on_vital_end()

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed_handlers += 1
            log_event(HANDLER_FAILED, task=task.get_name(), **describe_error(error))


class LoopErrors:
    """Exception handler of the event loop: logs each kind of error once per second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}
        self.total = 0

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs what the loop reports, or counts it as suppressed."""
        self.total += 1
        message = str(context.get("message", ""))
        error = context.get("exception")
        kind = _kind(message, error)
        logged_at, suppressed = self._kinds.get(kind, (float("-inf"), 0))
        now = self._now()
        if now - logged_at < 1:
            self._kinds[kind] = (logged_at, suppressed + 1)
            return
        if len(self._kinds) >= _KINDS_LIMIT:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        fields = describe_error(error) if isinstance(error, BaseException) else {}
        log_event(LOOP_ERROR, message=message, suppressed=suppressed, **fields)


def _kind(message: str, error: object) -> tuple[object, ...]:
    """What makes two errors the same: the type and the line that raised it, else the message.

    The message alone will not do, it names objects by their addresses.
    """
    if not isinstance(error, BaseException):
        return (message,)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(error), trace and (trace.tb_frame.f_code, trace.tb_lineno))
