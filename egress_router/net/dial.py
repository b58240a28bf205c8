"""Connecting to one of several addresses, from the router's source address and link.

1. Attempts start 250 ms apart, each address once, families in turn (RFC 8305, sections 4 and 5;
   upstreams.py); a failure starts the next at once. The first connection wins, all others are
   closed.
2. Every socket is bound to the egress link and source before it connects: a packet that routing
   would send elsewhere is not sent at all.
3. Raw sockets and one handler for each attempt. There is no transport whose cancelled creation
   could close a descriptor that is someone else's by then, no task for each attempt, and no name
   ever reaches getaddrinfo. Keepalive is the business of whoever holds the connection for long.
4. Addresses that failed lately come last (health.py).
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.net.deadlines import Deadlines
from egress_router.net.dial_errors import DialCause, DialError, Failure, cause_of
from egress_router.net.egress import bind_stream
from egress_router.net.endpoint import hold_ack, open_stream, tune_stream
from egress_router.net.poller import BROKEN, READABLE, WRITABLE, Watcher
from egress_router.net.upstreams import Upstreams

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from egress_router.net.egress import Egress
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.health import Health
    from egress_router.net.poller import Poller
    from egress_router.net.upstreams import Upstream

    OnEnd: TypeAlias = Callable[["Dial", socket.SocketType | DialError], object]

STAGGER_S: Final = 0.25  # RFC 8305, section 5: Connection Attempt Delay
DIAL_S: Final = 10.0  # all attempts together; the originals' connect timeout

_EINPROGRESS: Final = int(errno.EINPROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DialLimits:
    """`tries`: how many addresses at most (None: all); times in seconds."""

    stagger_s: float = STAGGER_S
    dial_s: float = DIAL_S
    tries: int | None = None


class Dialler:
    """Connects; what it needs beside the addresses."""

    __slots__ = ("deadlines", "health", "limits", "poller", "staggers", "upstreams")

    def __init__(self, *, poller: Poller, health: Health, limits: DialLimits | None = None) -> None:
        self.poller = poller
        self.health = health
        self.limits = limits or DialLimits()
        self.deadlines = Deadlines(poller.loop, self.limits.dial_s)
        self.staggers = Deadlines(poller.loop, self.limits.stagger_s)
        self.upstreams = Upstreams()

    async def dial(
        self, addresses: tuple[IPAddress, ...], port: int, egress: Egress
    ) -> socket.SocketType:
        """A connected, non-blocking stream socket to one of the addresses; the caller owns it.

        The order of the addresses counts, within each family; the first one's family goes first.
        Raises DialError. A cancelled dial leaves no socket behind.
        """
        done: asyncio.Future[socket.SocketType] = self.poller.loop.create_future()
        on_end = partial(_settle, self.poller, done)
        attempts = self.start(addresses, port, egress, on_end)
        try:
            return await done
        except BaseException:
            attempts.cancel()
            if done.done() and not done.cancelled() and done.exception() is None:
                # It won in the very turn of the loop in which we were cancelled.
                self.poller.discard(done.result())
            raise
        finally:
            # The future holds the error, whose traceback holds this frame and all above it: a
            # circle that would keep their sockets open until the collector comes by.
            del done, on_end

    def start(
        self,
        addresses: tuple[IPAddress, ...],
        port: int,
        egress: Egress,
        on_end: OnEnd,
        *,
        hold_ack: bool = False,
    ) -> Dial:
        """The same without a task: `on_end` is called once, perhaps within this call.

        It gets the dial, and the connected socket, which is its own then, or the error. `hold_ack`:
        see `endpoint.hold_ack`; what that asks for is owed by `on_end`.
        """
        upstreams = self.upstreams.of(addresses, port, egress)
        tried = self.health.order(upstreams)[: self.limits.tries]
        attempts = Dial(self, tried, port, egress.device, hold_ack=hold_ack)
        if upstreams:
            attempts.start(on_end)
        else:
            missing = (Failure(address=one, cause=DialCause.NO_SOURCE) for one in addresses)
            on_end(attempts, DialError(port, tuple(missing)))
        return attempts


def _settle(
    poller: Poller,
    done: asyncio.Future[socket.SocketType],
    _dial: Dial,
    result: socket.SocketType | DialError,
) -> None:
    if done.done():  # cancelled, and whoever waits has not had its turn yet
        if not isinstance(result, DialError):
            poller.discard(result)
    elif isinstance(result, DialError):
        done.set_exception(result)
    else:
        done.set_result(result)


class Dial(Watcher):
    """All attempts of one dial; made by `Dialler.start`.

    In `on_end`: `winner` is the one that answered, None if none has, and `read_out` tells that
    nothing has come from it yet (see `Carrier.carry`).
    """

    __slots__ = (
        "_device",
        "_dialler",
        "_end",
        "_failures",
        "_left",
        "_on_end",
        "_open",
        "_poller",
        "_stagger",
        "hold_ack",
        "port",
        "read_out",
        "winner",
    )

    def __init__(
        self,
        dialler: Dialler,
        upstreams: Sequence[Upstream],
        port: int,
        device: bytes | None,
        *,
        hold_ack: bool,
    ) -> None:
        self._dialler = dialler
        self._poller = dialler.poller
        self._device = device
        self.port = port
        self._left = upstreams
        self._open: dict[int, tuple[Upstream, socket.SocketType]] = {}  # in the order they began
        self._failures: list[Failure] = []
        self._end = 0  # the numbers of our deadlines
        self._stagger = 0
        self._on_end: OnEnd | None = None
        self.winner: Upstream | None = None
        self.read_out = False
        self.hold_ack = hold_ack

    def start(self, on_end: OnEnd) -> None:
        """Begins; only `Dialler.start` calls this."""
        self._on_end = on_end
        self._end = self._dialler.deadlines.set(self._time_out)
        self._start_next()

    def cancel(self) -> None:
        """Gives all attempts up; nobody is told. Does nothing after the end."""
        self._on_end = None
        self._clear()

    def _start_next(self) -> None:
        self._stop_waiting()
        while self._left and self._on_end is not None:
            upstream, self._left = self._left[0], self._left[1:]
            try:
                code = self._start(upstream)
            except OSError as error:
                self._note(upstream, cause_of(error))
                continue
            if code:
                self._note(upstream, cause_of(OSError(code, os.strerror(code))))
                continue
            if self._left and self._on_end is not None:
                self._stagger = self._dialler.staggers.set(self._start_next)
            return
        if not self._open:
            self._finish(None)

    def _start(self, upstream: Upstream) -> int:
        """Begins one attempt; 0, or the error number of `connect`. Raises OSError as well."""
        sock = open_stream(upstream.family)
        try:
            bind_stream(sock, self._device, upstream.source)
            tune_stream(sock)
            if self.hold_ack:
                hold_ack(sock)
            code = sock.connect_ex(upstream.socket_address())
            if code == _EINPROGRESS:
                descriptor = sock.fileno()
                self._poller.watch(descriptor, self)
                self._open[descriptor] = (upstream, sock)
                return 0
        except BaseException:
            sock.close()
            raise
        if code:
            sock.close()
        else:
            self._win(upstream, sock)
        return code

    def on_edge(self, descriptor: int, events: int) -> None:
        """See `Watcher`."""
        attempt = self._open.get(descriptor)
        if attempt is None:
            return  # it has won, and its new owner has not taken it over yet
        upstream, sock = attempt
        if not events & WRITABLE:
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & BROKEN else 0
        if code:
            del self._open[descriptor]
            self._poller.discard(sock)
            self._note(upstream, cause_of(OSError(code, os.strerror(code))))
            self._start_next()
            return
        # Those that began earlier and are not there yet have had 250 ms more: they are slow or
        # dead, and need not cost the next dial the same.
        for other, (earlier, _) in self._open.items():
            if other == descriptor:
                break
            self._dialler.health.note_failed(earlier.address, earlier.port)
        del self._open[descriptor]
        self.read_out = not events & READABLE
        self._win(upstream, sock)

    def _win(self, upstream: Upstream, sock: socket.SocketType) -> None:
        self._dialler.health.note_alive(upstream.address, upstream.port)
        self.winner = upstream
        self._finish(sock)

    def _time_out(self) -> None:
        for upstream, _ in self._open.values():
            self._note(upstream, DialCause.TIMED_OUT)
        self._finish(None)

    def _note(self, upstream: Upstream, cause: DialCause) -> None:
        self._failures.append(Failure(address=upstream.address, cause=cause))
        # What is wrong on our side says nothing about the address.
        if cause in (DialCause.REFUSED, DialCause.UNREACHABLE, DialCause.TIMED_OUT):
            self._dialler.health.note_failed(upstream.address, upstream.port)

    def _finish(self, winner: socket.SocketType | None) -> None:
        on_end, self._on_end = self._on_end, None
        self._clear()
        if on_end is not None:
            on_end(self, winner or DialError(self.port, tuple(self._failures)))
        elif winner is not None:
            self._poller.discard(winner)

    def _clear(self) -> None:
        self._stop_waiting()
        self._dialler.deadlines.take_back(self._end)
        for _, sock in self._open.values():
            self._poller.discard(sock)
        self._open.clear()

    def _stop_waiting(self) -> None:
        if self._stagger:
            self._dialler.staggers.take_back(self._stagger)
            self._stagger = 0
