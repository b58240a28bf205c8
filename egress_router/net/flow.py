"""One direction of a relay: from a source socket to a sink socket, without ever holding much.

1. A flow is READING, BLOCKED or DONE. READING waits for an edge of the source and holds nothing.
   BLOCKED holds bytes that the sink did not take, and waits for an edge of the sink: what comes in
   meanwhile waits in the kernel, and the sender with it.
2. Small pieces are copied through a buffer shared by all. Once a read has filled a good part of it
   the flow turns to splice(2) through a borrowed pipe, and gives it back when it runs dry.
3. The end of the source is passed on by shutdown after the last byte held. Where it is known to
   be near, the last bytes wait for it (MSG_MORE), so that both leave in one packet.
4. One call moves a bounded number of bytes: other connections get their turn. But a flow reads on
   until there is nothing left, or comes back by itself, for an edge is told once. A copy that was
   shorter than the buffer has emptied the source, unless it is uneven (poller.UNEVEN).
"""

from __future__ import annotations

import os
import socket
from enum import IntEnum
from typing import TYPE_CHECKING

from egress_router.net.endpoint import push
from egress_router.net.pipes import PIPE_BYTES

if TYPE_CHECKING:
    from egress_router.net.pipes import Pipe
    from egress_router.net.relay import Relay

TURN_BYTES = 1 << 20  # in one call, and what one splice brings beyond: some 0.5 ms
PIECE_BYTES = TURN_BYTES // 16  # what a small piece counts as: each costs its system calls
LAST_ROUNDS = 8  # at the end of a relay: what a socket may still hold
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
        "ending",
        "moved",
        "sink",
        "source",
        "state",
        "uneven",
    )

    def __init__(self, relay: Relay, source: socket.SocketType, sink: socket.SocketType) -> None:
        self._relay = relay
        self.source = source
        self.sink = sink
        self.state = FlowState.READING
        self.moved = 0
        self.uneven = False
        self.ending = False  # the peer has sent its last byte, and all that is left can be read
        self._bulk = False
        self._held = 0
        self._pending: bytes | memoryview = b""
        self._pipe: Pipe | None = None

    def start(self, early: bytes) -> None:
        """Begins with bytes that were read from the source before."""
        self._pending = early
        if self._hand_on():
            self._relay.touch()
        elif self.state is FlowState.READING:
            self._block()

    def stop(self) -> None:
        """Lets go of everything but the sockets; may be called in any state."""
        self.state = FlowState.DONE
        self._pending = b""
        self._return_pipe()

    def flush_last(self) -> None:
        """Passes on what a source sent before it went away, as far as that goes without waiting."""
        if self.ending:
            push(self.sink)
        if self.state is not FlowState.READING:
            return
        buffer = self._relay.carrier.buffer
        try:
            for _ in range(LAST_ROUNDS):
                count = self.source.recv_into(buffer)
                sent = self.sink.send(buffer[:count]) if count else 0
                self.moved += sent
                if not count or sent < count:
                    return
        except OSError:
            return

    def pump(self) -> None:
        """Moves what there is, while READING: an edge of the source has come."""
        carrier = self._relay.carrier
        left = TURN_BYTES
        while left > 0:
            try:
                count = self._take_in(first=left == TURN_BYTES)
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
            left -= max(count, PIECE_BYTES)
            self._relay.touch()
            emptied = not self._held and count < PIPE_BYTES and not self.uneven
            if not self._hand_on():
                if self.state is FlowState.READING:
                    self._block()
                return
            self._bulk = count >= BULK_BYTES
            if emptied and not self._bulk:
                self._return_pipe()
                return
        self._return_pipe()
        carrier.poller.loop.call_soon(self._relay.go_on, self)

    def resume(self) -> None:
        """Hands on what is held, while BLOCKED: an edge of the sink has come."""
        if self._hand_on():
            self._relay.touch()
            self._return_pipe()
            self.state = FlowState.READING
            self.pump()

    def _take_in(self, *, first: bool) -> int:
        """Takes bytes from the source; 0 is its end. Called only while nothing is held."""
        if self._bulk:
            if self._pipe is None:
                self._pipe = self._relay.carrier.pipes.take()
            if self._pipe is not None:
                try:
                    self._held = os.splice(
                        self.source.fileno(), self._pipe.write, self._pipe.size, flags=_SPLICE
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
                sent = self.sink.send(self._pending, socket.MSG_MORE if self.ending else 0)
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
        self.state = FlowState.BLOCKED
        self._pending = bytes(self._pending)

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._relay.carrier.pipes.give(self._pipe, empty=not self._held)
            self._pipe, self._held = None, 0
