"""One connected socket that a task reads from and writes to, on a raw descriptor.

1. At most one reader and one writer wait at a time. The descriptor stays watched for reading
   between two reads: that saves two system calls for each message of a keep-alive connection.
2. What comes while nobody reads is reported once to `on_unasked`, and then not watched any more
   until somebody reads. So the end of a peer is seen while its request is being served, and a
   server that talks without being asked is found out.
3. When a socket has an error uvloop calls its reader once more and then never again: behind some
   last bytes a reset waits unannounced. So after each call the socket is read until nothing is
   left, before anybody waits again.
4. `fail` wakes whoever waits with an error: that is how timeouts and aborts come in.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READ_BYTES = 65536  # the most that one direction of a connection holds in memory
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: close sends RST


class Stream:
    """A non-blocking stream socket; owns it from now on."""

    __slots__ = (
        "_called",
        "_descriptor",
        "_error",
        "_loop",
        "_reader",
        "_watched",
        "_writer",
        "on_unasked",
        "sock",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.sock = sock
        self.on_unasked: Callable[[], None] | None = None
        self._loop = loop
        self._descriptor = sock.fileno()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._watched = False
        self._called = False  # by the loop, since a read last found nothing (rule 3)
        self._error: BaseException | None = None

    async def read(self, *, expect: bool = False) -> bytes:
        """Some bytes, at most READ_BYTES; empty at the end. Raises OSError, or what `fail` gave.

        `expect`: bytes are hardly there yet, so wait before the first try where that is safe.
        """
        if expect and not self._called:
            await self.wait_readable()
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self.sock.recv(READ_BYTES)
            except BlockingIOError:
                self._called = False
                await self.wait_readable()

    async def write(self, data: bytes) -> None:
        """Hands all of it to the kernel, waiting as long as the peer does not take it."""
        if self._error is not None:
            raise self._error
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        left = memoryview(data)[sent:]
        while left:
            await self._wait_writable()
            with contextlib.suppress(BlockingIOError):
                left = left[self.sock.send(left) :]

    def read_now(self) -> bytes | None:
        """What is there, empty at the end, None if there is nothing."""
        try:
            return self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None

    async def wait_readable(self) -> None:
        """Returns when a read would not block."""
        if self._error is not None:
            raise self._error
        self.watch()
        self._reader = ready = self._loop.create_future()
        try:
            await ready
        finally:
            self._reader = None

    def watch(self) -> None:
        """Notices from now on what comes, also while nobody reads."""
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._descriptor, self._on_readable)
        elif self._called and self._reader is None and not self.is_silent():
            self._loop.call_soon(self._on_readable)  # the loop may never do so again (rule 3)

    def fail(self, error: BaseException) -> None:
        """Whoever waits, or tries to read or write from now on, gets this error."""
        if self._error is None:
            self._error = error
        for waiter in (self._reader, self._writer):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    def recover(self) -> None:
        """Forgets a `fail`: there is something left to say all the same."""
        self._error = None

    def is_silent(self) -> bool:
        """Whether the peer has neither sent anything nor ended."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._called = False
            return self._error is None
        except OSError:
            pass
        return False

    def detach(self) -> socket.socket:
        """The socket, watched no more; it is the caller's now."""
        self._unwatch()
        self._descriptor = -1
        return self.sock

    def close(self, *, reset: bool = False) -> None:
        """Closes it; `reset` tells the peer that what it got is not all."""
        if self._descriptor < 0:
            return
        self._unwatch()
        self._descriptor = -1
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()

    async def _wait_writable(self) -> None:
        if self._error is not None:
            raise self._error
        self._writer = ready = self._loop.create_future()
        self._loop.add_writer(self._descriptor, _wake, ready)
        try:
            await ready
        finally:
            self._writer = None
            if self._descriptor >= 0:
                self._loop.remove_writer(self._descriptor)

    def _on_readable(self) -> None:
        self._called = True
        reader = self._reader
        if reader is not None:
            if not reader.done():
                reader.set_result(None)
            return
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return  # the loop had noted it before the last read took it
        except OSError:  # a reset: somebody will read it, or be told now
            pass
        self._unwatch()
        if self.on_unasked is not None:
            self.on_unasked()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
