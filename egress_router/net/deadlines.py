"""Deadlines that are all equally far away, from one timer of the loop.

A timer for each would be set and cancelled with every connection, and hardly one ever fires. Equal
spans come due in the order in which they began, so the first is all that a timer has to wait for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Deadlines:
    """Calls what has not been taken back `span_s` after it was set; never early."""

    __slots__ = ("_clock", "_due", "_loop", "_numbers", "_span_s", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        span_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: that of the loop, asked more cheaply."""
        self._loop = loop
        self._clock = clock
        self._span_s = span_s
        self._due: dict[int, tuple[float, Callable[[], object]]] = {}  # the first is due first
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def set(self, call: Callable[[], object]) -> int:
        """From now on it counts; returns the number to take it back by."""
        self._numbers += 1
        at = self._clock() + self._span_s
        self._due[self._numbers] = (at, call)
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._turn)
        return self._numbers

    def take_back(self, number: int) -> None:
        """It is not called any more; does nothing if it has been."""
        self._due.pop(number, None)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock()
        while self._due:
            number, (at, call) = next(iter(self._due.items()))
            if at > now:
                self._timer = self._loop.call_at(at, self._turn)
                return
            del self._due[number]
            call()
