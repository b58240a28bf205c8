"""EGRESS_CONNECTION_LOG: which of the connections that were carried have a line in the log.

What was refused or has failed is not asked for here: those lines are always written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.service.series import Series

WRITTEN: Final = "written"
LEFT_OUT: Final = "left_out"
OVER_LIMIT: Final = "over_limit"
LOST: Final = "lost"


class ConnectionLog:
    """One in `every` connections has its line, the first among them; 0: none has."""

    __slots__ = ("_number", "_turn", "every", "left_out", "lost", "over_limit", "written")

    lost: Callable[[], int]  # how many the kernel could not tell; read when somebody asks

    def __init__(self, every: int) -> None:
        self.every = every
        self._number = 0
        self._turn = 0
        self.written = 0
        self.left_out = 0
        self.over_limit = 0
        self.lost = lambda: 0

    def next_number(self) -> int:
        """For the id of a connection: 1, 2, 3."""
        self._number += 1
        return self._number

    def takes(self) -> bool:
        """Whether the connection that has just ended is to have a line; counts it."""
        if self.every != 1:
            turn, self._turn = self._turn, self._turn + 1
            if not self.every or turn % self.every:
                self.left_out += 1
                return False
        self.written += 1
        return True

    def give_up(self) -> None:
        """The line that was just granted is not written: there are too many."""
        self.written -= 1
        self.over_limit += 1

    def outcomes(self) -> Series:
        """How many connections, by what became of their line."""
        return {
            (WRITTEN,): self.written,
            (LEFT_OUT,): self.left_out,
            (OVER_LIMIT,): self.over_limit,
            (LOST,): self.lost(),
        }
