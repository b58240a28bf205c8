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
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from egress_router.errors import EgressRouterError
from egress_router.net.egress import bind_to
from egress_router.net.endpoint import family_of, socket_address, tune_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    usable = [address for address in addresses if egress.source_for(address) is not None]
    if not usable:
        missing = (Failure(address=one, cause=DialCause.NO_SOURCE) for one in addresses)
        raise DialError(port, tuple(missing))
    ordered = health.order(interleave(usable), port)[: limits.tries]
    return await _Race(ordered, port, egress, health, limits).run()


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


class _Race:
    """All attempts of one dial."""

    __slots__ = (
        "_done",
        "_egress",
        "_failures",
        "_health",
        "_left",
        "_limits",
        "_loop",
        "_open",
        "_port",
        "_started",
        "_timers",
        "_winner",
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
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._open: dict[IPAddress, socket.socket] = {}
        self._started: list[IPAddress] = []
        self._failures: list[Failure] = []
        self._winner: socket.socket | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self) -> socket.socket:
        """The winner; raises DialError."""
        self._timers["end"] = self._loop.call_later(self._limits.dial_s, self._time_out)
        try:
            self._start_next()
            await self._done
        except BaseException:
            if self._winner is not None:
                self._winner.close()
            raise
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for sock in self._open.values():
                self._drop(sock)
        if self._winner is None:
            raise DialError(self._port, tuple(self._failures))
        return self._winner

    def _start_next(self) -> None:
        if timer := self._timers.pop("next", None):
            timer.cancel()
        while self._left and not self._done.done():
            address = self._left.pop()
            self._started.append(address)
            try:
                self._start(address)
            except OSError as error:
                self._note(address, _cause_of(error))
                continue
            if self._left and not self._done.done():
                self._timers["next"] = self._loop.call_later(
                    self._limits.stagger_s, self._start_next
                )
            return
        if not self._open:
            self._end()

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
                self._open[address] = sock
                self._loop.add_writer(sock.fileno(), self._on_writable, address)
            else:
                self._win(address, sock)
        except BaseException:
            sock.close()
            raise

    def _on_writable(self, address: IPAddress) -> None:
        sock = self._open.pop(address)
        self._loop.remove_writer(sock.fileno())
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._note(address, _cause_of(OSError(code, os.strerror(code))))
            self._start_next()
        elif self._done.done():
            sock.close()
        else:
            self._win(address, sock)

    def _win(self, address: IPAddress, sock: socket.socket) -> None:
        self._winner = sock
        self._health.note_alive(address, self._port)
        # Those that began earlier and are not there yet have had 250 ms more: they are slow or
        # dead, and need not cost the next dial the same.
        for earlier in self._started[: self._started.index(address)]:
            if earlier in self._open:
                self._health.note_failed(earlier, self._port)
        self._end()

    def _time_out(self) -> None:
        if self._done.done():
            return
        for address in self._open:
            self._note(address, DialCause.TIMED_OUT)
        self._end()

    def _note(self, address: IPAddress, cause: DialCause) -> None:
        self._failures.append(Failure(address=address, cause=cause))
        # What is wrong on our side says nothing about the address.
        if cause in (DialCause.REFUSED, DialCause.UNREACHABLE, DialCause.TIMED_OUT):
            self._health.note_failed(address, self._port)

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _drop(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        sock.close()


def _cause_of(error: OSError) -> DialCause:
    return _CAUSES.get(error.errno or 0, DialCause.UNREACHABLE)
