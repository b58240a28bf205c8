"""One direction of a relay: from a source socket to a sink socket, without ever holding much.

1. A flow is READING, BLOCKED or DONE. READING watches the source for bytes and holds none itself.
   BLOCKED holds bytes that the sink did not take, watches the sink, and does not watch the source:
   what comes in meanwhile waits in the kernel, and the sender with it.
2. Small pieces are copied through a buffer shared by all. Once a read has filled a good part of it
   the flow turns to splice(2) through a borrowed pipe, and gives it back when it runs dry.
3. The end of the source is passed on by shutdown after the last byte held.
4. One call moves a bounded number of bytes: other connections get their turn. But a call reads on
   until there is nothing left, or comes back by itself: when a socket has an error (a reset behind
   some last bytes, say) uvloop calls its reader once more and then never again.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING

from egress_router.net.pipes import PIPE_BYTES

if TYPE_CHECKING:
    import socket

    from egress_router.net.pipes import Pipe
    from egress_router.net.relay import Relay

ROUNDS = 8  # at most 8 times 64 KiB in one call: some 0.2 ms
BULK_BYTES = 16384  # from here on splice's two calls and the pipe cost less than two copies

_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class FlowState(IntEnum):
    """See rule 1 of this module."""

    READING = 0
    BLOCKED = 1
    DONE = 2


class Flow:
    """Moves bytes one way; its relay owns the sockets and hears of every end and error."""

    __slots__ = (
        "_bulk",
        "_held",
        "_pending",
        "_pipe",
        "_relay",
        "moved",
        "sink",
        "source",
        "state",
    )

    def __init__(self, relay: Relay, source: socket.socket, sink: socket.socket) -> None:
        self._relay = relay
        self.source = source
        self.sink = sink
        self.state = FlowState.READING
        self.moved = 0
        self._bulk = False
        self._held = 0
        self._pending: bytes | memoryview = b""
        self._pipe: Pipe | None = None

    def start(self, early: bytes) -> None:
        """Begins with bytes that were read from the source before."""
        self._pending = early
        self.state = FlowState.BLOCKED
        if self._hand_on():
            self._resume()
        elif self.state is FlowState.BLOCKED:
            self._relay.carrier.loop.add_writer(self.sink.fileno(), self._on_writable)

    def stop(self) -> None:
        """Lets go of everything but the sockets; may be called in any state."""
        loop = self._relay.carrier.loop
        if self.state is FlowState.READING:
            loop.remove_reader(self.source.fileno())
        elif self.state is FlowState.BLOCKED:
            loop.remove_writer(self.sink.fileno())
        self.state = FlowState.DONE
        self._pending = b""
        self._return_pipe()

    def flush_last(self) -> None:
        """Passes on what a source sent before it went away, as far as that goes without waiting."""
        if self.state is not FlowState.READING:
            return
        buffer = self._relay.carrier.buffer
        try:
            for _ in range(ROUNDS):
                count = self.source.recv_into(buffer)
                sent = self.sink.send(buffer[:count]) if count else 0
                self.moved += sent
                if not count or sent < count:
                    return
        except OSError:
            return

    def _on_readable(self) -> None:
        if self.state is not FlowState.READING:
            return
        try:
            self._pump()
        except Exception:
            self._relay.fail_inside()
            raise

    def _on_writable(self) -> None:
        try:
            if self._hand_on():
                self._relay.carrier.loop.remove_writer(self.sink.fileno())
                self._resume()
        except Exception:
            self._relay.fail_inside()
            raise

    def _pump(self) -> None:
        for turn in range(ROUNDS):
            try:
                count = self._take_in(first=turn == 0)
            except BlockingIOError:
                self._return_pipe()
                return
            except OSError as error:
                self._relay.fail(self.source, error)
                return
            if count == 0:
                self.stop()
                self._relay.finish(self)
                return
            self._relay.touch()
            if not self._hand_on():
                if self.state is FlowState.READING:
                    self._block()
                return
            self._bulk = count >= BULK_BYTES
        self._return_pipe()
        self._relay.carrier.loop.call_soon(self._on_readable)

    def _take_in(self, *, first: bool) -> int:
        """Takes bytes from the source; 0 is its end. Called only while nothing is held."""
        if self._bulk:
            if self._pipe is None:
                self._pipe = self._relay.carrier.pipes.take()
            if self._pipe is not None:
                try:
                    self._held = os.splice(
                        self.source.fileno(), self._pipe.write, PIPE_BYTES, flags=_SPLICE
                    )
                except BlockingIOError:
                    # splice does not pass over urgent data: it would be readable for ever. A read
                    # takes it, or finds that there really is nothing.
                    if not first:
                        raise
                else:
                    return self._held
        buffer = self._relay.carrier.buffer
        count = self.source.recv_into(buffer)
        # A view of the shared buffer: _hand_on follows at once, and _block copies what it leaves.
        self._pending = buffer[:count]
        return count

    def _hand_on(self) -> bool:
        """Gives the sink what is held; False if some is left, or the relay has ended."""
        try:
            while self._held and self._pipe is not None:
                sent = os.splice(self._pipe.read, self.sink.fileno(), self._held, flags=_SPLICE)
                self._held -= sent
                self.moved += sent
            while self._pending:
                sent = self.sink.send(self._pending)
                self.moved += sent
                self._pending = self._pending[sent:]
            self._pending = b""
        except BlockingIOError:
            return False
        except OSError as error:
            self._relay.fail(self.sink, error)
            return False
        return True

    def _block(self) -> None:
        loop = self._relay.carrier.loop
        self.state = FlowState.BLOCKED
        self._pending = bytes(self._pending)
        loop.remove_reader(self.source.fileno())
        loop.add_writer(self.sink.fileno(), self._on_writable)

    def _resume(self) -> None:
        self._relay.touch()
        self._return_pipe()
        self.state = FlowState.READING
        self._relay.carrier.loop.add_reader(self.source.fileno(), self._on_readable)

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._relay.carrier.pipes.give(self._pipe, empty=not self._held)
            self._pipe, self._held = None, 0
