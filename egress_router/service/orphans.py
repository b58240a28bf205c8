"""Duty of PID 1: processes whose parents have gone are handed to it and must be waited for.

The difficulty is not to take the exit status of a child that our own code started and is about to
wait for itself. An exited child is therefore only looked at (WNOWAIT) and left for a while: our own
are collected by whoever started them; what is still there after that is nobody's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

LOOK_S = 1.0
# Code of ours that starts a process waits for it from the event loop, within milliseconds.
LEAVE_S = 3.0


class OrphanReaper:
    """Collects exited orphans; runs only where the process is PID 1 of its namespace."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seen: dict[int, float] = {}
        self._timer = loop.call_later(LOOK_S, self._tick)

    def stop(self) -> None:
        """Ends the timer."""
        self._timer.cancel()

    def _tick(self) -> None:
        if self._seen or _any_exited_child():
            self._seen = reap_orphans(self._seen, self._loop.time())
        self._timer = self._loop.call_later(LOOK_S, self._tick)


def reap_orphans(seen: Mapping[int, float], now: float) -> dict[int, float]:
    """Collects the exited children that were there `LEAVE_S` ago already.

    `seen` says since when each exited child has been known, `{pid: seconds}`; returns the same for
    those that are left.
    """
    left = {}
    for pid in observe_exited_children():
        since = seen.get(pid, now)
        if now - since < LEAVE_S:
            left[pid] = since
            continue
        with contextlib.suppress(ChildProcessError):  # its own code was faster
            os.waitpid(pid, os.WNOHANG)
    return left


def observe_exited_children() -> tuple[int, ...]:
    """The pids of our children that have exited and not been waited for."""
    me = os.getpid()
    return tuple(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _is_exited(entry, me)
    )


def _is_exited(process: Path, parent: int) -> bool:
    try:
        stat = (process / "stat").read_bytes()
    except OSError:
        return False
    state, of = stat[stat.rindex(b")") + 2 :].split(maxsplit=2)[:2]  # proc_pid_stat(5)
    return state == b"Z" and int(of) == parent


def _any_exited_child() -> bool:
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return info is not None
