"""The life of a daemon: start, serve, drain, end; and what may end it otherwise.

1. Until the mode says `started()`, SIGTERM or SIGINT end the process at once, exit code 0.
2. After that the first one begins the drain: `stopping` is set, the daemon is not ready, the mode
   finishes what is open and returns. The drain time, or a second signal, cuts: the mode's task is
   cancelled. Exit code 0 in each case.
3. A mode that returns or raises without having been asked to stop, or a vital task that ends, ends
   the daemon with an exit code that is not 0.
4. From the moment the mode has ended the process has `LAST_RESORT_S` left: the loop waits for its
   threads when it closes, and one that hangs in a name lookup must not use up the grace period.
5. A process that is one of several is steered by the first one: it has no handlers of its own.
6. The event loop is uvloop's, made by asyncio.Runner and by no global policy: netlink watchers run
   plain loops in threads of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

from egress_router.errors import EXIT_OK, EXIT_UNEXPECTED, EgressRouterError
from egress_router.service import signals
from egress_router.service.events import (
    DAEMON_CUT,
    DAEMON_FAILED,
    DAEMON_STOPPED,
    DAEMON_STOPPING,
    RELOAD_REQUESTED,
)
from egress_router.service.lag import LagProbe
from egress_router.service.logs import close_logs, describe_error, log_event
from egress_router.service.orphans import OrphanReaper
from egress_router.service.tasks import LoopErrors, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, NoReturn

# Kubernetes grants 30 s between SIGTERM and SIGKILL; the rest is for the cut and the last lines.
DRAIN_S = 25.0
# What a cancelled mode gets to close its connections and log their lines.
CUT_S = 0.5
FLUSH_S = 0.3
LAST_RESORT_S = 0.2


class Lifecycle:
    """One daemon's life; made inside its running loop.

    `stopping` is set when the drain begins. `drain_s` is how long it may take; a mode with a
    setting of its own overwrites it. `steered`: rule 5.
    """

    def __init__(self, mode: str, *, steered: bool = False) -> None:
        self.mode = mode
        self._steered = steered
        self.drain_s = DRAIN_S
        self.stopping = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.lag = LagProbe(self.loop)
        self.tasks = Tasks(self._vital_ended)
        self.loop_errors = LoopErrors(self.loop.time)
        self._reaper = OrphanReaper(self.loop) if os.getpid() == 1 else None
        self._started = False
        self._stop_signals = 0
        self._vital_failed = self.loop.create_future()
        self._serving: asyncio.Task[None] | None = None
        self._on_drain: list[Callable[[], None]] = []
        self._on_cut: list[Callable[[], None]] = []
        self._on_reload: Callable[[], None] | None = None

    def started(self) -> None:
        """Says that the mode serves: from now on a stop is a drain."""
        self._started = True

    @property
    def serves(self) -> bool:
        """Whether the mode has said that it does."""
        return self._started

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Calls back when the drain begins, before `stopping` is set."""
        self._on_drain.append(callback)

    def on_cut(self, callback: Callable[[], None]) -> None:
        """Calls back when what is still open is about to be cut."""
        self._on_cut.append(callback)

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Calls back in the loop on SIGHUP; without a callback SIGHUP does nothing."""
        self._on_reload = callback

    def drain(self, signal_name: str) -> None:
        """Begins the drain."""
        log_event(DAEMON_STOPPING, mode=self.mode, signal=signal_name, drain_s=self.drain_s)
        for callback in self._on_drain:
            callback()
        self.stopping.set()
        self.loop.call_later(self.drain_s, self.cut, f"{self.drain_s:g} s of draining are over")

    def cut(self, reason: str) -> None:
        """Ends what is still open."""
        if self._serving is not None and not self._serving.done():
            log_event(DAEMON_CUT, mode=self.mode, reason=reason)
            for callback in self._on_cut:
                callback()
            self._serving.cancel()

    async def run(self, serve: Coroutine[Any, Any, None]) -> int:
        """Runs the mode to its end and returns the exit code."""
        self.loop.set_exception_handler(self.loop_errors)
        if not self._steered:
            signals.set_stop_handler(self._stop_signal, self._hangup_signal)
        self._serving = self.loop.create_task(serve, name=f"mode {self.mode}")
        await asyncio.wait({self._serving, self._vital_failed}, return_when=asyncio.FIRST_COMPLETED)
        if not self._serving.done():
            self._serving.cancel()
            await asyncio.wait({self._serving}, timeout=CUT_S)
        exit_code = self._judge(self._serving)
        await self.tasks.end(CUT_S)
        self.lag.stop()
        if self._reaper is not None:
            self._reaper.stop()
        return exit_code

    def _judge(self, serving: asyncio.Task[None]) -> int:
        if self._vital_failed.done():
            return EXIT_UNEXPECTED  # logged when it ended
        if not serving.done() or serving.cancelled():
            return EXIT_OK if self.stopping.is_set() else EXIT_UNEXPECTED
        error = serving.exception()
        if error is None and self.stopping.is_set():
            return EXIT_OK
        fields = {"error": "the mode ended by itself"}
        exit_code = EXIT_UNEXPECTED
        if isinstance(error, EgressRouterError):
            fields, exit_code = {"error": str(error)}, error.exit_code
        elif error is not None:
            fields = describe_error(error)
        log_event(DAEMON_FAILED, mode=self.mode, exit_code=exit_code, **fields)
        return exit_code

    def _vital_ended(self) -> None:
        if not self._vital_failed.done():
            self._vital_failed.set_result(None)

    def _stop_signal(self, number: int) -> None:
        # Runs between two bytecodes of the main thread, whatever the loop is doing.
        self._stop_signals += 1
        if not self._started:
            log_event(DAEMON_STOPPED, mode=self.mode, exit_code=EXIT_OK)
            end_process(EXIT_OK)
        elif self._stop_signals == 1:
            self.loop.call_soon_threadsafe(self.drain, signal.Signals(number).name)
        else:
            arm_last_resort(EXIT_OK, CUT_S + LAST_RESORT_S)
            self.loop.call_soon_threadsafe(self.cut, "a second signal")

    def _hangup_signal(self) -> None:
        self.loop.call_soon_threadsafe(self._reload)

    def _reload(self) -> None:
        if self._on_reload is not None:
            log_event(RELOAD_REQUESTED, mode=self.mode)
            self._on_reload()


def run_lifecycle(
    mode: str,
    serve: Callable[[Lifecycle], Coroutine[Any, Any, None]],
    *,
    steered: bool = False,
) -> int:
    """Runs `serve` in a loop of uvloop's until it has ended; returns the exit code.

    The process ends within `LAST_RESORT_S` of that, even if a thread hangs.
    """
    import uvloop  # noqa: PLC0415 - the one user; tests of the rest run without it

    async def live() -> int:
        lifecycle = Lifecycle(mode, steered=steered)
        exit_code = await lifecycle.run(serve(lifecycle))
        log_event(DAEMON_STOPPED, mode=mode, exit_code=exit_code)
        close_logs(FLUSH_S)
        arm_last_resort(exit_code, LAST_RESORT_S)
        return exit_code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live())


def arm_last_resort(exit_code: int, after_s: float) -> None:
    """Ends the process after that time if it has not ended by then."""
    timer = threading.Timer(after_s, end_process, (exit_code,))
    timer.daemon = True
    timer.start()


def end_process(exit_code: int) -> NoReturn:
    """Ends the process here and now, but for the lines that wait to be written."""
    close_logs(FLUSH_S)
    os._exit(exit_code)
