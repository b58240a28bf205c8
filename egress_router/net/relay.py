"""Two connected sockets become one connection: a full-duplex relay that the kernel carries.

1. A relay owns both sockets from `carry` on and closes them at its end, whatever that is.
2. Each direction ends by itself: a FIN goes on behind the last byte, the other direction lives on
   (at most a minute without a byte). When both have ended the relay has.
3. A reset goes on as a reset: the other end must not take a torn connection for a finished one.
4. An idle relay holds no pipe, no buffer, no task and no timer of its own.
5. What ends the handshake with the upstream may be held back for the client's first bytes, as one
   packet with them: a server is woken once then, for a connection that has something to say.
   What the server answers is acknowledged at once all the same, unless its end has come too:
   its next piece may be waiting for that (RFC 896).
6. Keepalive begins with the first silence of 15 s: most connections never have one, and are spared
   its system calls.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress_router.net.deadlines import Deadlines
from egress_router.net.endpoint import arm_reset, keep_alive, release_ack
from egress_router.net.flow import BLOCKED, DONE, READING, Flow
from egress_router.net.pipes import PIPE_BYTES, PipePool
from egress_router.net.poller import ENDING, READABLE, UNEVEN, WRITABLE
from egress_router.net.wheel import Idler, IdleWheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.poller import Poller

# Keepalive finds dead peers much earlier; users lost long silent sessions to less.
IDLE_S: Final = 3600.0
HALF_CLOSED_IDLE_S: Final = 60.0
SILENT_S = 15.0  # no Final: a test shortens it, in compiled code as well
HELD_S: Final = 0.005  # longer than a client in the cluster takes for its first bytes

_SHUT_WR: Final = int(socket.SHUT_WR)

_RESET_ERRNOS: Final = {errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED}


class EndReason(StrEnum):
    """Why a relay ended, as the connection's log line has it."""

    CLOSED = "closed"
    RESET_BY_CLIENT = "reset by client"
    RESET_BY_UPSTREAM = "reset by upstream"
    CLIENT_LOST = "client lost"
    UPSTREAM_LOST = "upstream lost"
    IDLE = "idle"
    HALF_CLOSED_IDLE = "half-closed and idle"
    CUT = "cut"
    BROKEN = "broken"


class RelayEnd:
    """The bytes delivered each way (`up`: from the client to the upstream), and why it ended.

    `client_first`: the client spoke, and the upstream had said nothing by then.
    """

    __slots__ = ("bytes_down", "bytes_up", "client_first", "reason")

    def __init__(
        self, reason: EndReason, bytes_up: int, bytes_down: int, *, client_first: bool
    ) -> None:
        self.reason = reason
        self.bytes_up = bytes_up
        self.bytes_down = bytes_down
        self.client_first = client_first


class Carrier:
    """What all relays of one loop share: poller, timer wheel, pipes, buffer, limits."""

    def __init__(
        self,
        poller: Poller,
        *,
        idle_s: float = IDLE_S,
        half_closed_idle_s: float = HALF_CLOSED_IDLE_S,
        pipes: PipePool | None = None,
        wheel: IdleWheel | None = None,
    ) -> None:
        self.poller = poller
        self.pipes = PipePool() if pipes is None else pipes
        self.wheel = IdleWheel(poller.loop) if wheel is None else wheel
        self.buffer = memoryview(bytearray(PIPE_BYTES))
        self.idle_ticks = self.wheel.ticks(idle_s)
        self.silent_ticks = min(self.idle_ticks, self.wheel.ticks(SILENT_S))
        self.half_closed_ticks = min(self.idle_ticks, self.wheel.ticks(half_closed_idle_s))
        self.relays: set[Relay] = set()
        self.handshakes = Deadlines(poller.loop, HELD_S)

    def carry(  # noqa: PLR0913 - two sockets, and what is known of each
        self,
        client: socket.SocketType,
        upstream: socket.SocketType,
        on_end: Callable[[RelayEnd], object],
        *,
        early_up: bytes = b"",
        early_down: bytes = b"",
        client_read_out: bool = False,
        upstream_read_out: bool = False,
        ack_held: bool = False,
    ) -> Relay:
        """Relays between two connected, non-blocking sockets until `on_end` is called, once.

        `early_up` was read from the client before and goes to the upstream first; `early_down` the
        other way. `read_out`: whoever watched the socket so far has read all that it was told of.
        `ack_held`: the upstream was dialled so (`endpoint.hold_ack`), and is told of its connection
        with the client's first bytes, or as soon as the client turns out to have none: where it is
        read out, that is 5 ms from now.
        `on_end` never runs within this call.
        """
        relay = Relay(self, client, upstream, on_end)
        self.relays.add(relay)
        self.wheel.add(relay)
        if ack_held:
            relay.hold_handshake(begun=bool(early_up), client_read_out=client_read_out)
        if relay in self.relays:
            relay.watch(client_read_out=client_read_out, upstream_read_out=upstream_read_out)
            relay.start(early_up, early_down)
        relay.begun = True
        return relay

    def cut_all(self) -> None:
        """Ends every relay at once; both ends see a reset."""
        for relay in tuple(self.relays):
            relay.cut()

    def close(self) -> None:
        """Cuts what is left and gives the pipes back to the system."""
        self.cut_all()
        self.pipes.close()


class Relay(Idler):
    """One tunnel; made by `Carrier.carry`."""

    __slots__ = (
        "__weakref__",
        "_acks_late",
        "_client",
        "_down",
        "_handshake",
        "_kept_alive",
        "_on_end",
        "_server_first",
        "_up",
        "begun",
        "carrier",
    )

    def __init__(
        self,
        carrier: Carrier,
        client: socket.SocketType,
        upstream: socket.SocketType,
        on_end: Callable[[RelayEnd], object],
    ) -> None:
        super().__init__(carrier.silent_ticks)
        self.carrier = carrier
        self._on_end = on_end
        self._client = client.fileno()
        self._up = Flow(carrier, client, upstream)
        self._down = Flow(carrier, upstream, client)
        self._acks_late = False  # the kernel delays them, after a held handshake: tcp(7)
        self._kept_alive = False
        self._server_first = False
        self._handshake = 0  # the number of its deadline
        self.begun = False  # `Carrier.carry` has returned

    def start(self, early_up: bytes, early_down: bytes) -> None:
        """Begins to relay; only `Carrier.carry` calls this."""
        if early_up:
            self._up.start(self, early_up)
        if early_down and self in self.carrier.relays:
            self._down.start(self, early_down)

    def hold_handshake(self, *, begun: bool, client_read_out: bool) -> None:
        """Waits for the client's first bytes, if need be; only `Carrier.carry` calls this."""
        self._acks_late = True
        if begun:
            return
        if client_read_out:
            self._handshake = self.carrier.handshakes.set(self._end_handshake)
        else:
            self.go_on(self._up)
            self._end_handshake()

    def watch(self, *, client_read_out: bool, upstream_read_out: bool) -> None:
        """Takes the sockets' edges over; only `Carrier.carry` calls this."""
        poller = self.carrier.poller
        poller.watch(self._client, self, read_out=client_read_out)
        poller.watch(self._down.source.fileno(), self, read_out=upstream_read_out)

    def go_on(self, flow: Flow) -> None:
        """A flow has had its share of a turn, and comes back."""
        if flow.state == READING:
            try:
                flow.pump(self)
            except Exception:
                self.fail_inside()
                raise

    @property
    def ends(self) -> tuple[socket.SocketType, socket.SocketType]:
        """The client's socket and the upstream's; they stay the relay's."""
        return self._up.source, self._up.sink

    @property
    def bytes_up(self) -> int:
        """Bytes delivered to the upstream so far."""
        return self._up.moved

    @property
    def bytes_down(self) -> int:
        """Bytes delivered to the client so far."""
        return self._down.moved

    def cut(self) -> None:
        """Ends the relay now; both ends see a reset. Does nothing after the end."""
        self._end(EndReason.CUT, reset=(self._up.source, self._up.sink))

    def touch(self) -> None:
        """A flow moved bytes."""
        self.active_tick = self.carrier.wheel.now

    def finish(self, flow: Flow) -> None:
        """A flow has passed all of its bytes on, and its source has ended."""
        if self._other(flow).state == DONE:
            self._end(EndReason.CLOSED)
            return
        try:
            flow.sink.shutdown(_SHUT_WR)
        except OSError as error:
            self.fail(flow.sink, error)
            return
        self.touch()
        self.idle_ticks = self.carrier.half_closed_ticks
        self.carrier.wheel.move(self)

    def fail(self, sock: socket.SocketType, error: OSError) -> None:
        """A socket gave an error: its peer is gone, and the other end is told by a reset."""
        towards = self._up if sock is self._up.sink else self._down
        # A peer may answer, close, and reset what still comes in: the answer is worth passing on.
        self._other(towards).flush_last()
        reset = error.errno in _RESET_ERRNOS
        if sock is self._up.source:
            reason = EndReason.RESET_BY_CLIENT if reset else EndReason.CLIENT_LOST
        else:
            reason = EndReason.RESET_BY_UPSTREAM if reset else EndReason.UPSTREAM_LOST
        self._end(reason, reset=(towards.source,))

    def fail_inside(self) -> None:
        """Something unforeseen was raised: this relay dies of it, no other one does."""
        self._end(EndReason.BROKEN, reset=(self._up.source, self._up.sink))

    def end_idle(self) -> None:
        """The wheel found that no byte has moved for the limit, or the first time for 15 s."""
        half_closed = DONE in (self._up.state, self._down.state)
        if not half_closed and not self._kept_alive:
            self._kept_alive = True
            with contextlib.suppress(OSError):  # its peer has gone, of which an edge will tell
                keep_alive(self._up.source)
                keep_alive(self._up.sink)
            self.idle_ticks = self.carrier.idle_ticks
            if self.carrier.wheel.keep(self):
                return
        self._end(EndReason.HALF_CLOSED_IDLE if half_closed else EndReason.IDLE)

    def _end_handshake(self) -> None:
        if not self._up.moved:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._acks_late = False
        if self in self.carrier.relays and self._down.state != DONE:
            release_ack(self._up.sink)

    def on_edge(self, descriptor: int, events: int) -> None:
        """See `Watcher`."""
        if descriptor == self._client:
            self._take(self._up, self._down, events)
            return
        if events & READABLE and not self._up.moved:
            self._server_first = True
        self._take(self._down, self._up, events)
        if self._acks_late and self._down.moved:
            self._acknowledge()

    def _take(self, reading: Flow, writing: Flow, events: int) -> None:
        """An edge of the socket that is the source of one flow and the sink of the other."""
        try:
            if events & READABLE:
                if events & UNEVEN:
                    reading.uneven = True
                    reading.ending = events & UNEVEN == ENDING
                if reading.state == READING:
                    reading.pump(self)
            if events & WRITABLE and writing.state == BLOCKED:
                writing.resume(self)
        except Exception:
            self.fail_inside()
            raise

    def _other(self, flow: Flow) -> Flow:
        return self._down if flow is self._up else self._up

    def _end(self, reason: EndReason, *, reset: tuple[socket.SocketType, ...] = ()) -> None:
        if self not in self.carrier.relays:
            return
        self.carrier.relays.discard(self)
        self.carrier.wheel.discard(self)
        if self._handshake:
            self.carrier.handshakes.take_back(self._handshake)
        self._up.stop()
        self._down.stop()
        for sock in reset:
            arm_reset(sock)
        self.carrier.poller.discard(self._up.source)
        self.carrier.poller.discard(self._up.sink)
        client_first = self._up.moved > 0 and not self._server_first
        end = RelayEnd(reason, self._up.moved, self._down.moved, client_first=client_first)
        if self.begun:
            self._tell(end)
        else:
            self.carrier.poller.loop.call_soon(self._tell, end)

    def _tell(self, end: RelayEnd) -> None:
        # Now, and not by the loop's next turn, which would cost as much as the rest of the end.
        try:
            self._on_end(end)
        except Exception as error:  # noqa: BLE001 - the loop's handler logs it; no other is concerned
            self.carrier.poller.loop.call_exception_handler(
                {"message": "end of a connection", "exception": error}
            )
