"""How late the event loop runs its timers: what one blocking handler does to all the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# A block of 100 ms is worth seeing; a timer of that length cannot miss one. Ten wakes a second
# cost less than 0.1 % of a core.
INTERVAL_S = 0.1
# The largest lag is kept for one to two of these, so that no scrape interval in use misses it.
WINDOW_S = 30.0


class LagProbe:
    """A repeating timer that compares when it runs with when it should have run.

    It has a clock of its own: the loop's stands still while the loop is blocked.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._now = now
        self._due = now() + INTERVAL_S
        self._window_end = self._due + WINDOW_S
        self._current = 0.0
        self._previous = 0.0
        self._timer = loop.call_later(INTERVAL_S, self._tick)

    def largest_s(self) -> float:
        """The largest lag of the last 30 to 60 seconds."""
        return max(self._current, self._previous)

    def stop(self) -> None:
        """Ends the timer."""
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._now()
        if now >= self._window_end:
            self._previous, self._current = self._current, 0.0
            self._window_end = now + WINDOW_S
        self._current = max(self._current, now - self._due)
        self._due = now + INTERVAL_S
        self._timer = self._loop.call_later(INTERVAL_S, self._tick)
