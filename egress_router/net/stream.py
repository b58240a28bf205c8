"""One connected socket that a task reads from and writes to, on a raw descriptor.

1. At most one reader and one writer wait at a time. The poller tells each edge once; what has been
   told and not been read yet is remembered, so that a read with nothing there costs no system call.
2. What comes while nobody reads is reported once to `on_unasked`, and again only after `watch`. So
   the end of a peer is seen while its request is being served, and a server that talks without
   being asked is found out.
3. A read that fills less than it might has emptied the socket: later bytes make a new edge. That
   holds until the poller has told of an end, an error or an urgent byte; from then on every read
   goes on until nothing is left.
4. `fail` wakes whoever waits with an error: that is how timeouts and aborts come in.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from egress_router.net.endpoint import arm_reset
from egress_router.net.poller import READABLE, UNEVEN, WRITABLE, Watcher

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from egress_router.net.poller import Poller

READ_BYTES: Final = 65536  # the most that one direction of a connection holds in memory


class Stream(Watcher):
    """A non-blocking stream socket; owns it from now on."""

    __slots__ = (
        "_descriptor",
        "_error",
        "_poller",
        "_readable",
        "_reader",
        "_uneven",
        "_watching",
        "_writer",
        "on_unasked",
        "sock",
    )

    def __init__(self, sock: socket.SocketType, poller: Poller) -> None:
        self.sock = sock
        self.on_unasked: Callable[[], None] | None = None
        self._poller = poller
        self._descriptor = sock.fileno()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._watching = False
        self._readable = False
        self._uneven = False
        poller.watch(self._descriptor, self)

    async def read(self) -> bytes:
        """Some bytes, at most READ_BYTES; empty at the end. Raises OSError, or what `fail` gave."""
        while True:
            if self._error is not None:
                raise self._error
            if self._readable:
                data = self.read_now()
                if data is not None:
                    return data
            await self._wait_readable()

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
            try:
                sent = self.sock.send(left)
                left = left[sent:]
            except BlockingIOError:
                await self._wait_writable()

    def read_now(self) -> bytes | None:
        """What is there, empty at the end, None if there is nothing."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            self._readable = False
            return None
        if len(data) < READ_BYTES and not self._uneven:
            self._readable = False
        return data

    def watch(self) -> None:
        """Notices from now on what comes, also while nobody reads."""
        self._watching = True
        if self._readable and self._reader is None and not self.is_silent():
            self._poller.loop.call_soon(self._tell)

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
            self._readable = False
            return self._error is None
        except OSError:
            pass
        return False

    @property
    def is_read_out(self) -> bool:
        """Whether all that the poller has told of has been read."""
        return not (self._readable or self._uneven)

    def detach(self) -> socket.SocketType:
        """The socket; it is the caller's now, who watches it in its turn."""
        self._descriptor = -1
        self.on_unasked = None  # whose owner commonly has us: a circle, for the collector to find
        return self.sock

    def close(self, *, reset: bool = False) -> None:
        """Closes it; `reset` tells the peer that what it got is not all."""
        if self._descriptor < 0:
            return
        self._poller.forget(self._descriptor)
        self._descriptor = -1
        self.on_unasked = None
        if reset:
            arm_reset(self.sock)
        self.sock.close()

    async def _wait_readable(self) -> None:
        self._reader = ready = self._poller.loop.create_future()
        try:
            await ready
        finally:
            self._reader = None

    async def _wait_writable(self) -> None:
        if self._error is not None:
            raise self._error
        self._writer = ready = self._poller.loop.create_future()
        try:
            await ready
        finally:
            self._writer = None

    def on_edge(self, _descriptor: int, events: int) -> None:
        """See `Watcher`."""
        if events & READABLE:
            if events & UNEVEN:
                self._uneven = True
            self._readable = True
            reader = self._reader
            if reader is None:
                self._tell()
            elif not reader.done():
                reader.set_result(None)
        if events & WRITABLE:
            writer = self._writer
            if writer is not None and not writer.done():
                writer.set_result(None)

    def _tell(self) -> None:
        if self._watching and self._reader is None and self._descriptor >= 0:
            self._watching = False
            if self.on_unasked is not None:
                self.on_unasked()
