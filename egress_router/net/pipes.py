"""Kernel pipes for splice(2), lent out while bytes flow.

A pipe costs two descriptors and up to 64 KiB of kernel memory. An idle tunnel holds none, and
there is an upper bound: beyond it relays copy through a buffer, which is slower but never fails.
"""

from __future__ import annotations

import os
from typing import NamedTuple

PIPE_BYTES = 65536  # the kernel's default size: what one direction of a relay may hold at most
PIPES_MAX = 128  # 256 descriptors; more bulk flows than this at once are bound by the link anyway
SPARE_MAX = 32


class Pipe(NamedTuple):
    """Two descriptors: what is spliced into `write` comes out of `read`."""

    read: int
    write: int


class PipePool:
    """Lends pipes and takes them back, empty or not."""

    __slots__ = ("_limit", "_spare", "lent")

    def __init__(self, *, limit: int = PIPES_MAX) -> None:
        self._limit = limit
        self._spare: list[Pipe] = []
        self.lent = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None if there are enough of them, or no descriptors left."""
        if self.lent >= self._limit:
            return None
        if self._spare:
            pipe = self._spare.pop()
        else:
            try:
                pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError:
                return None
        self.lent += 1
        return pipe

    def give(self, pipe: Pipe, *, empty: bool) -> None:
        """Takes a pipe back; one that still holds bytes is closed with them."""
        self.lent -= 1
        if empty and len(self._spare) < SPARE_MAX:
            self._spare.append(pipe)
        else:
            _close(pipe)

    def close(self) -> None:
        """Closes the pipes that are not lent out."""
        while self._spare:
            _close(self._spare.pop())


def _close(pipe: Pipe) -> None:
    os.close(pipe.read)
    os.close(pipe.write)
