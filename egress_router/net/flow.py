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
from typing import TYPE_CHECKING, Final

from egress_router.net.endpoint import push
from egress_router.net.pipes import PIPE_BYTES

if TYPE_CHECKING:
    from egress_router.net.pipes import Pipe
    from egress_router.net.relay import Carrier, Relay

TURN_BYTES: Final = 1 << 20  # in one call, and what one splice brings beyond: some 0.5 ms
PIECE_BYTES: Final = TURN_BYTES // 16  # what a small piece counts as: each costs its system calls
LAST_ROUNDS: Final = 8  # at the end of a relay: what a socket may still hold
BULK_BYTES: Final = 16384  # from here on splice's two calls and the pipe cost less than two copies

_SPLICE: Final = int(os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
_MSG_MORE: Final = int(socket.MSG_MORE)


# See rule 1 of this module. Plain numbers: a member of an enumeration is looked up by its name.
READING: Final = 0
BLOCKED: Final = 1
DONE: Final = 2


class Flow:
    """Moves bytes one way; its relay owns the sockets and hears of every end and error.

    The relay comes with each call: flows that knew theirs would be a circle with it, left for the
    garbage collector at the end of every connection.
    """

    __slots__ = (
        "_bulk",
        "_carrier",
        "_held",
        "_pending",
        "_pipe",
        "ending",
        "moved",
        "sink",
        "source",
        "state",
        "uneven",
    )

    def __init__(
        self, carrier: Carrier, source: socket.SocketType, sink: socket.SocketType
    ) -> None:
        self._carrier = carrier
        self.source = source
        self.sink = sink
        self.state: int = READING
        self.moved = 0
        self.uneven = False
        self.ending = False  # the peer has sent its last byte, and all that is left can be read
        self._bulk = False
        self._held = 0
        self._pending: bytes | memoryview = b""
        self._pipe: Pipe | None = None

    def start(self, relay: Relay, early: bytes) -> None:
        """Begins with bytes that were read from the source before."""
        self._pending = early
        if self._hand_on(relay):
            relay.touch()
        elif self.state == READING:
            self._block()

    def stop(self) -> None:
        """Lets go of everything but the sockets; may be called in any state."""
        self.state = DONE
        self._pending = b""
        self._return_pipe()

    def flush_last(self) -> None:
        """Passes on what a source sent before it went away, as far as that goes without waiting."""
        if self.ending:
            push(self.sink)
        if self.state != READING:
            return
        buffer = self._carrier.buffer
        try:
            for _ in range(LAST_ROUNDS):
                count = self.source.recv_into(buffer)
                sent = self.sink.send(buffer[:count]) if count else 0
                self.moved += sent
                if not count or sent < count:
                    return
        except OSError:
            return

    def pump(self, relay: Relay) -> None:
        """Moves what there is, while READING: an edge of the source has come."""
        left = TURN_BYTES
        while left > 0:
            try:
                count = self._take_in(first=left == TURN_BYTES)
            except BlockingIOError:
                self._return_pipe()
                return
            except OSError as error:
                relay.fail(self.source, error)
                return
            if count == 0:
                self._end(relay)
                return
            left -= max(count, PIECE_BYTES)
            relay.touch()
            emptied = not self._held and count < PIPE_BYTES
            if not self._hand_on(relay):
                if self.state == READING:
                    self._block()
                return
            if emptied and self.ending:  # what was left has been read: its end comes next
                self._end(relay)
                return
            self._bulk = count >= BULK_BYTES
            if emptied and not self.uneven and not self._bulk:
                self._return_pipe()
                return
        self._return_pipe()
        self._carrier.poller.loop.call_soon(relay.go_on, self)

    def resume(self, relay: Relay) -> None:
        """Hands on what is held, while BLOCKED: an edge of the sink has come."""
        if self._hand_on(relay):
            relay.touch()
            self._return_pipe()
            self.state = READING
            self.pump(relay)

    def _end(self, relay: Relay) -> None:
        self.stop()
        relay.finish(self)

    def _take_in(self, *, first: bool) -> int:
        """Takes bytes from the source; 0 is its end. Called only while nothing is held."""
        if self._bulk:
            if self._pipe is None:
                self._pipe = self._carrier.pipes.take()
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
        buffer = self._carrier.buffer
        count = self.source.recv_into(buffer)
        # A view of the shared buffer: _hand_on follows at once, and _block copies what it leaves.
        self._pending = buffer[:count]
        return count

    def _hand_on(self, relay: Relay) -> bool:
        """Gives the sink what is held; False if some is left, or the relay has ended."""
        try:
            while self._held and self._pipe is not None:
                sent = os.splice(self._pipe.read, self.sink.fileno(), self._held, flags=_SPLICE)
                self._held -= sent
                self.moved += sent
            while self._pending:
                sent = self.sink.send(self._pending, _MSG_MORE if self.ending else 0)
                self.moved += sent
                if sent == len(self._pending):
                    break
                self._pending = self._pending[sent:]
            self._pending = b""
        except BlockingIOError:
            return False
        except OSError as error:
            relay.fail(self.sink, error)
            return False
        return True

    def _block(self) -> None:
        self.state = BLOCKED
        self._pending = bytes(self._pending)

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._carrier.pipes.give(self._pipe, empty=not self._held)
            self._pipe, self._held = None, 0
