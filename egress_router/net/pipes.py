"""Kernel pipes for splice(2), lent out while bytes flow.

1. A pipe costs two descriptors, and memory for what it holds. An idle tunnel holds none, and there
   is an upper bound: beyond it relays copy through a buffer, which is slower but never fails.
2. The first pipes are large. A splice that moves a megabyte at once costs a third of sixteen that
   move the same, for each wakes both ends and sends what it has. There are few, because the kernel
   counts the pages of all pipes of a user, across pods, and makes later ones tiny beyond its limit
   (pipe-user-pages-soft, 64 MiB; pipe(7)).
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, NamedTuple

PIPE_BYTES: Final = 65536  # the kernel's default size
LARGE_BYTES: Final = 1 << 20  # what anybody may ask for (pipe-max-size)
LARGE_MAX: Final = 16
# 256 descriptors; more bulk flows than this at once are bound by the link anyway.
PIPES_MAX: Final = 128
SPARE_MAX: Final = 32


class Pipe(NamedTuple):
    """Two descriptors: what is spliced into `write` comes out of `read`. `size` in bytes."""

    read: int
    write: int
    size: int


class PipePool:
    """Lends pipes and takes them back, empty or not."""

    __slots__ = ("_large_left", "_limit", "_spare", "lent")

    def __init__(self, *, limit: int = PIPES_MAX) -> None:
        self._limit = limit
        self._spare: list[Pipe] = []  # the large ones at the end, from where they are lent first
        self._large_left = LARGE_MAX  # how many more may be made
        self.lent = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None if there are enough of them, or no descriptors left."""
        if self.lent >= self._limit:
            return None
        if self._spare and (self._spare[-1].size > PIPE_BYTES or not self._large_left):
            pipe = self._spare.pop()
        else:
            made = self._make()
            if made is None:
                return None
            pipe = made
        self.lent += 1
        return pipe

    def give(self, pipe: Pipe, *, empty: bool) -> None:
        """Takes a pipe back; one that still holds bytes is closed with them."""
        self.lent -= 1
        if not empty or len(self._spare) >= SPARE_MAX:
            self._close(pipe)
        elif pipe.size > PIPE_BYTES:
            self._spare.append(pipe)
        else:
            self._spare.insert(0, pipe)

    def close(self) -> None:
        """Closes the pipes that are not lent out."""
        while self._spare:
            self._close(self._spare.pop())

    def _make(self) -> Pipe | None:
        try:
            read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        size = PIPE_BYTES
        if self._large_left:
            try:
                size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, LARGE_BYTES)
                self._large_left -= 1
            except OSError:
                self._large_left = 0  # the user's share is used up, and will be for a while
        return Pipe(read=read, write=write, size=size)

    def _close(self, pipe: Pipe) -> None:
        self._large_left += pipe.size > PIPE_BYTES
        os.close(pipe.read)
        os.close(pipe.write)
