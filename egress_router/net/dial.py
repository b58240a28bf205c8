"""Connecting to one of several addresses, from the router's source address and link.

1. Attempts start 250 ms apart, each address once, families in turn (RFC 8305, sections 4 and 5);
   a failure starts the next at once. The first connection wins, all others are closed.
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
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, TypeAlias

from egress_router.net.deadlines import Deadlines
from egress_router.net.dial_errors import DialCause, DialError, Failure, cause_of
from egress_router.net.egress import bind_to
from egress_router.net.endpoint import family_of, open_stream, socket_address, tune_stream
from egress_router.net.poller import BROKEN, READABLE, WRITABLE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from egress_router.net.egress import Egress
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.health import Health
    from egress_router.net.poller import Poller

    OnEnd: TypeAlias = Callable[["Dial", socket.SocketType | DialError], object]

STAGGER_S = 0.25  # RFC 8305, section 5: Connection Attempt Delay
DIAL_S = 10.0  # all attempts together; the originals' connect timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class DialLimits:
    """`tries`: how many addresses at most (None: all); times in seconds."""

    stagger_s: float = STAGGER_S
    dial_s: float = DIAL_S
    tries: int | None = None


class Dialler:
    """Connects; what it needs beside the addresses."""

    __slots__ = ("deadlines", "health", "limits", "poller")

    def __init__(self, *, poller: Poller, health: Health, limits: DialLimits | None = None) -> None:
        self.poller = poller
        self.health = health
        self.limits = limits or DialLimits()
        self.deadlines = Deadlines(poller.loop, self.limits.dial_s)

    async def dial(
        self, addresses: Sequence[IPAddress], port: int, egress: Egress
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
                discard(self.poller, done.result())
            raise
        finally:
            # The future holds the error, whose traceback holds this frame and all above it: a
            # circle that would keep their sockets open until the collector comes by.
            del done, on_end

    def start(
        self,
        addresses: Sequence[IPAddress],
        port: int,
        egress: Egress,
        on_end: OnEnd,
    ) -> Dial:
        """The same without a task: `on_end` is called once, perhaps within this call.

        It gets the dial, and the connected socket, which is its own then, or the error.
        """
        usable = [address for address in addresses if egress.source_for(address) is not None]
        ordered = self.health.order(interleave(usable), port)[: self.limits.tries]
        attempts = Dial(self, ordered, port, egress)
        if usable:
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
            discard(poller, result)
    elif isinstance(result, DialError):
        done.set_exception(result)
    else:
        done.set_result(result)


def interleave(addresses: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
    """Families in turn, beginning with the first address's; the order within each stays.

    `a4 b4 a6` becomes `a4 a6 b4`. An address given twice counts once.
    """
    unique = tuple(dict.fromkeys(addresses)) if len(addresses) > 1 else tuple(addresses)
    if len(unique) < 2:
        return unique
    first = [one for one in unique if one.version == unique[0].version]
    other = [one for one in unique if one.version != unique[0].version]
    return tuple(one for one in chain(*zip_longest(first, other)) if one is not None)


class Dial:
    """All attempts of one dial; made by `Dialler.start`.

    In `on_end`: `address` is the winner's, None if there is none, and `read_out` tells that nothing
    has come from it yet (see `Carrier.carry`).
    """

    __slots__ = (
        "_deadlines",
        "_egress",
        "_end",
        "_failures",
        "_health",
        "_left",
        "_limits",
        "_next",
        "_on_end",
        "_open",
        "_poller",
        "address",
        "port",
        "read_out",
    )

    def __init__(
        self, dialler: Dialler, addresses: Sequence[IPAddress], port: int, egress: Egress
    ) -> None:
        self._poller = dialler.poller
        self._health = dialler.health
        self._limits = dialler.limits
        self._deadlines = dialler.deadlines
        self._left = list(reversed(addresses))
        self.port = port
        self._egress = egress
        self._open: dict[
            int, tuple[IPAddress, socket.SocketType]
        ] = {}  # in the order of their start
        self._failures: list[Failure] = []
        self._end = 0  # the number of our deadline
        self._next: asyncio.TimerHandle | None = None
        self._on_end: OnEnd | None = None
        self.address: IPAddress | None = None
        self.read_out = False

    def start(self, on_end: OnEnd) -> None:
        """Begins; only `Dialler.start` calls this."""
        self._on_end = on_end
        self._end = self._deadlines.set(self._time_out)
        self._start_next()

    def cancel(self) -> None:
        """Gives all attempts up; nobody is told. Does nothing after the end."""
        self._on_end = None
        self._clear()

    def _start_next(self) -> None:
        self._stop_waiting()
        while self._left and self._on_end is not None:
            address = self._left.pop()
            try:
                code = self._start(address)
            except OSError as error:
                self._note(address, cause_of(error))
                continue
            if code:
                self._note(address, cause_of(OSError(code, os.strerror(code))))
                continue
            if self._left and self._on_end is not None:
                self._next = self._poller.loop.call_later(self._limits.stagger_s, self._start_next)
            return
        if not self._open:
            self._finish(None)

    def _start(self, address: IPAddress) -> int:
        """Begins one attempt; 0, or the error number of `connect`. Raises OSError as well."""
        sock = open_stream(family_of(address))
        try:
            bind_to(sock, self._egress, address)
            tune_stream(sock)
            code = sock.connect_ex(socket_address(address, self.port))
            if code == errno.EINPROGRESS:
                descriptor = sock.fileno()
                self._poller.watch(descriptor, self._on_edge)
                self._open[descriptor] = (address, sock)
                return 0
        except BaseException:
            sock.close()
            raise
        if code:
            sock.close()
        else:
            self._win(address, sock)
        return code

    def _on_edge(self, descriptor: int, events: int) -> None:
        attempt = self._open.get(descriptor)
        if attempt is None:
            return  # it has won, and its new owner has not taken it over yet
        address, sock = attempt
        if not events & WRITABLE:
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & BROKEN else 0
        if code:
            del self._open[descriptor]
            discard(self._poller, sock)
            self._note(address, cause_of(OSError(code, os.strerror(code))))
            self._start_next()
            return
        # Those that began earlier and are not there yet have had 250 ms more: they are slow or
        # dead, and need not cost the next dial the same.
        for other, (earlier, _) in self._open.items():
            if other == descriptor:
                break
            self._health.note_failed(earlier, self.port)
        del self._open[descriptor]
        self.read_out = not events & READABLE
        self._win(address, sock)

    def _win(self, address: IPAddress, sock: socket.SocketType) -> None:
        self._health.note_alive(address, self.port)
        self.address = address
        self._finish(sock)

    def _time_out(self) -> None:
        for address, _ in self._open.values():
            self._note(address, DialCause.TIMED_OUT)
        self._finish(None)

    def _note(self, address: IPAddress, cause: DialCause) -> None:
        self._failures.append(Failure(address=address, cause=cause))
        # What is wrong on our side says nothing about the address.
        if cause in (DialCause.REFUSED, DialCause.UNREACHABLE, DialCause.TIMED_OUT):
            self._health.note_failed(address, self.port)

    def _finish(self, winner: socket.SocketType | None) -> None:
        on_end, self._on_end = self._on_end, None
        self._clear()
        if on_end is not None:
            on_end(self, winner or DialError(self.port, tuple(self._failures)))
        elif winner is not None:
            discard(self._poller, winner)

    def _clear(self) -> None:
        self._stop_waiting()
        self._deadlines.take_back(self._end)
        for _, sock in self._open.values():
            discard(self._poller, sock)
        self._open.clear()

    def _stop_waiting(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None


def discard(poller: Poller, sock: socket.SocketType) -> None:
    """Closes a connected socket that nobody has taken over."""
    poller.forget(sock.fileno())
    sock.close()
