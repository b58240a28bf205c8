"""Connecting to one of several addresses, from the router's source address and link.

1. Attempts start 250 ms apart, each address once, families in turn (RFC 8305, sections 4 and 5);
   a failure starts the next at once. The first connection wins, all others are closed.
2. Every socket is bound to the egress link and source before it connects: a packet that routing
   would send elsewhere is not sent at all.
3. Raw sockets and one writer callback for each attempt. There is no transport whose cancelled
   creation could close a descriptor that is someone else's by then, no task for each attempt, and
   no name ever reaches getaddrinfo.
4. Addresses that failed lately come last (health.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from egress_router.errors import EgressRouterError
from egress_router.net.egress import bind_to
from egress_router.net.endpoint import family_of, socket_address, tune_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.net.egress import Egress
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.health import Health

STAGGER_S = 0.25  # RFC 8305, section 5: Connection Attempt Delay
DIAL_S = 10.0  # all attempts together; the originals' connect timeout


class DialCause(StrEnum):
    """Why no connection came about; a proxy answers 504 to a timeout, 503 to `exhausted`."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    LINK_DOWN = "link down"
    NO_SOURCE = "no source address of that family"
    EXHAUSTED = "out of ports, descriptors or memory"


# Of several causes the one that came closest to a connection is told.
_NEAREST_FIRST = (
    DialCause.REFUSED,
    DialCause.TIMED_OUT,
    DialCause.EXHAUSTED,
    DialCause.UNREACHABLE,
    DialCause.LINK_DOWN,
    DialCause.NO_SOURCE,
)

_CAUSES = {
    errno.ECONNREFUSED: DialCause.REFUSED,
    errno.ECONNRESET: DialCause.REFUSED,
    errno.ECONNABORTED: DialCause.REFUSED,
    errno.ETIMEDOUT: DialCause.TIMED_OUT,
    errno.ENODEV: DialCause.LINK_DOWN,
    errno.ENETDOWN: DialCause.LINK_DOWN,
    # connect: every port towards this very address is in use. (bind says it of a lost source.)
    errno.EADDRNOTAVAIL: DialCause.EXHAUSTED,
    errno.EMFILE: DialCause.EXHAUSTED,
    errno.ENFILE: DialCause.EXHAUSTED,
    errno.ENOBUFS: DialCause.EXHAUSTED,
    errno.ENOMEM: DialCause.EXHAUSTED,
    errno.EAGAIN: DialCause.EXHAUSTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt that came to nothing."""

    address: IPAddress
    cause: DialCause


class DialError(EgressRouterError):
    """No address could be connected to; `failures` has those that were tried."""

    def __init__(self, port: int, failures: tuple[Failure, ...]) -> None:
        causes = {failure.cause for failure in failures}
        self.cause = next(
            (cause for cause in _NEAREST_FIRST if cause in causes), _NEAREST_FIRST[-1]
        )
        tried = ", ".join(f"{failure.address} {failure.cause}" for failure in failures)
        super().__init__(f"connecting to port {port}: {tried or 'no address to try'}")
        self.failures = failures


@dataclass(frozen=True, slots=True, kw_only=True)
class DialLimits:
    """`tries`: how many addresses at most (None: all); times in seconds."""

    stagger_s: float = STAGGER_S
    dial_s: float = DIAL_S
    tries: int | None = None


_DEFAULT_LIMITS = DialLimits()


async def dial(
    addresses: Sequence[IPAddress],
    port: int,
    egress: Egress,
    *,
    health: Health,
    limits: DialLimits = _DEFAULT_LIMITS,
) -> socket.socket:
    """A connected, non-blocking stream socket to one of the addresses; the caller owns it.

    The order of the addresses counts, within each family; the first one's family goes first.
    Raises DialError. A cancelled dial leaves no socket behind.
    """
    done: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    on_end = partial(_settle, done)
    attempts = start_dial(addresses, port, egress, on_end, health=health, limits=limits)
    try:
        return await done
    except BaseException:
        attempts.cancel()
        if done.done() and not done.cancelled() and done.exception() is None:
            done.result().close()  # it won in the very turn of the loop in which we were cancelled
        raise
    finally:
        # The future holds the error, whose traceback holds this frame and all above it: a circle
        # that would keep their sockets open until the collector comes by.
        del done, on_end


def _settle(done: asyncio.Future[socket.socket], result: socket.socket | DialError) -> None:
    if done.done():  # cancelled, and whoever waits has not had its turn yet
        if not isinstance(result, DialError):
            result.close()
    elif isinstance(result, DialError):
        done.set_exception(result)
    else:
        done.set_result(result)


def start_dial(  # noqa: PLR0913 - as `dial`, and whom to tell
    addresses: Sequence[IPAddress],
    port: int,
    egress: Egress,
    on_end: Callable[[socket.socket | DialError], object],
    *,
    health: Health,
    limits: DialLimits = _DEFAULT_LIMITS,
) -> Dial:
    """The same without a task: `on_end` is called once, perhaps within this call.

    It gets the connected socket, which is its own then, or the error.
    """
    usable = [address for address in addresses if egress.bound(address.version) is not None]
    ordered = health.order(interleave(usable), port)[: limits.tries]
    attempts = Dial(ordered, port, egress, health, limits)
    if usable:
        attempts.start(on_end)
    else:
        missing = (Failure(address=one, cause=DialCause.NO_SOURCE) for one in addresses)
        on_end(DialError(port, tuple(missing)))
    return attempts


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
    """All attempts of one dial; made by `start_dial`."""

    __slots__ = (
        "_egress",
        "_end",
        "_failures",
        "_health",
        "_left",
        "_limits",
        "_loop",
        "_next",
        "_on_end",
        "_open",
        "_port",
    )

    def __init__(
        self,
        addresses: Sequence[IPAddress],
        port: int,
        egress: Egress,
        health: Health,
        limits: DialLimits,
    ) -> None:
        self._left = list(reversed(addresses))
        self._port = port
        self._egress = egress
        self._health = health
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, tuple[IPAddress, socket.socket]] = {}  # in the order of their start
        self._failures: list[Failure] = []
        self._end: asyncio.TimerHandle | None = None
        self._next: asyncio.TimerHandle | None = None
        self._on_end: Callable[[socket.socket | DialError], object] | None = None

    def start(self, on_end: Callable[[socket.socket | DialError], object]) -> None:
        """Begins; only `start_dial` calls this."""
        self._on_end = on_end
        self._end = self._loop.call_later(self._limits.dial_s, self._time_out)
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
                self._start(address)
            except OSError as error:
                self._note(address, _cause_of(error))
                continue
            if self._left and self._on_end is not None:
                self._next = self._loop.call_later(self._limits.stagger_s, self._start_next)
            return
        if not self._open:
            self._finish(None)

    def _start(self, address: IPAddress) -> None:
        sock = socket.socket(
            family_of(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            bind_to(sock, self._egress, address)
            tune_stream(sock)
            try:
                sock.connect(socket_address(address, self._port))
            except BlockingIOError as error:
                if error.errno != errno.EINPROGRESS:
                    raise
                descriptor = sock.fileno()
                self._open[descriptor] = (address, sock)
                self._loop.add_writer(descriptor, self._on_writable, descriptor)
                return
        except BaseException:
            sock.close()
            raise
        self._win(address, sock)

    def _on_writable(self, descriptor: int) -> None:
        if descriptor not in self._open:
            return  # given up in the turn of the loop that reported it
        self._loop.remove_writer(descriptor)
        address, sock = self._open[descriptor]
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            del self._open[descriptor]
            sock.close()
            self._note(address, _cause_of(OSError(code, os.strerror(code))))
            self._start_next()
            return
        # Those that began earlier and are not there yet have had 250 ms more: they are slow or
        # dead, and need not cost the next dial the same.
        for other, (earlier, _) in self._open.items():
            if other == descriptor:
                break
            self._health.note_failed(earlier, self._port)
        del self._open[descriptor]
        self._win(address, sock)

    def _win(self, address: IPAddress, sock: socket.socket) -> None:
        self._health.note_alive(address, self._port)
        self._finish(sock)

    def _time_out(self) -> None:
        for address, _ in self._open.values():
            self._note(address, DialCause.TIMED_OUT)
        self._finish(None)

    def _note(self, address: IPAddress, cause: DialCause) -> None:
        self._failures.append(Failure(address=address, cause=cause))
        # What is wrong on our side says nothing about the address.
        if cause in (DialCause.REFUSED, DialCause.UNREACHABLE, DialCause.TIMED_OUT):
            self._health.note_failed(address, self._port)

    def _finish(self, winner: socket.socket | None) -> None:
        on_end, self._on_end = self._on_end, None
        self._clear()
        if on_end is not None:
            on_end(winner or DialError(self._port, tuple(self._failures)))
        elif winner is not None:
            winner.close()

    def _clear(self) -> None:
        self._stop_waiting()
        if self._end is not None:
            self._end.cancel()
            self._end = None
        for descriptor, (_, sock) in self._open.items():
            self._loop.remove_writer(descriptor)
            sock.close()
        self._open.clear()

    def _stop_waiting(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None


def _cause_of(error: OSError) -> DialCause:
    return _CAUSES.get(error.errno or 0, DialCause.UNREACHABLE)
