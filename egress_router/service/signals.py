"""Signals and standard descriptors before anything slow: cheap to import, first thing to call.

1. Before the mode serves, SIGTERM and SIGINT end the process at once with exit code 0: nothing has
   been promised to anybody. As PID 1 this needs a handler, the kernel ignores the default action.
2. Later the handler that `lifecycle` sets takes over: the first one drains, the second one cuts.
3. The handlers are Python's, not the event loop's: they run between two bytecodes of the main
   thread, so a start that imports or computes for half a second still ends at once.
4. SIGPIPE, SIGUSR1 and SIGUSR2 are ignored; SIGHUP too until a mode asks for it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
IGNORED_SIGNALS = (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def install_early_handlers() -> None:
    """Makes the process end at once on SIGTERM or SIGINT, until `lifecycle` takes over."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end_at_once)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def fill_standard_descriptors() -> None:
    """Opens /dev/null under 0, 1 and 2 where they are closed, so that no socket gets the number.

    Called after the logs have looked whether 1 is open: to them that makes a difference.
    """
    for descriptor in (0, 1, 2):
        _fill(descriptor)


def ignore_stop_signals() -> None:
    """For a process that the daemon's first one tells when to end.

    A kubelet signals PID 1 alone, a terminal everybody: a Ctrl-C is still told once.
    """
    for number in (*STOP_SIGNALS, *IGNORED_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def set_stop_handler(on_stop: Callable[[int], None], on_hangup: Callable[[], None]) -> None:
    """Hands SIGTERM, SIGINT and SIGHUP to the lifecycle; called between two bytecodes."""

    def stop(number: int, _frame: FrameType | None) -> None:
        on_stop(number)

    def hangup(_number: int, _frame: FrameType | None) -> None:
        on_hangup()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, hangup)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _fill(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
