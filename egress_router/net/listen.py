"""Listening sockets, and how many of their connections are let in.

1. Connections are counted by us, below half of what the descriptor limit allows: at the kernel's
   own limit asyncio spins and uvloop drops connections without a word.
2. A turn of the loop accepts a bounded number: a burst of new connections does not keep those
   that are open waiting.
3. Out of descriptors all the same: one is kept in reserve, given up for a moment so that the
   waiting connection can be accepted and closed. If even that fails, accepting pauses for a while.
4. Where other processes accept from the same sockets, who has many more connections open than
   another one leaves the next to it for a moment: those that stay open would all be with whoever
   wakes up first. So does who is at its limit; what is still there then is beyond all limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from egress_router.net.binding import BACKLOG
from egress_router.net.endpoint import accept_stream

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from egress_router.net.binding import Bound, Sockets

    OnConnection: TypeAlias = Callable[[socket.SocketType, tuple[str, int]], object]

ACCEPT_BATCH = 8  # in one turn: whoever else listens there, and may be idle, takes the next ones
LEFT_BATCH = 64  # beyond the limit, and left by others: turned away in one turn
STAND_BACK_S = 0.001  # longer than an idle process takes to wake up
STAND_BACK_FULL_S = 0.02
AHEAD_TIMES, AHEAD_BY = 1.5, 4  # another's number of connections so often, and these, are many more
PAUSE_S = 0.2  # without descriptors even for the reserve; recovery is owed within a second
DESCRIPTORS_KEPT = 320  # pipes of the relays (128, two each), the resolver's sockets, logs, admin

_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_NO_MEMORY = {errno.ENOBUFS, errno.ENOMEM}


def connection_limit(descriptor_limit: int, wanted: int | None = None) -> int:
    """How many connections to admit, each of them two descriptors; at least 1.

    `descriptor_limit` is the soft RLIMIT_NOFILE; `wanted` may only lower the result.
    """
    kept = min(DESCRIPTORS_KEPT, descriptor_limit // 2)
    possible = max(1, (descriptor_limit - kept) // 2)
    return possible if wanted is None else max(1, min(wanted, possible))


class Loads:
    """How many connections each process of a daemon has open, in memory that they share."""

    __slots__ = ("_counts", "_number")

    def __init__(self, counts: memoryview, number: int) -> None:
        """`counts`: an unsigned integer for each process; `number`: which of them is ours."""
        self._counts = counts
        self._number = number

    def tell(self, active: int) -> None:
        """That many are open here."""
        self._counts[self._number] = active

    def is_ahead(self, active: int) -> bool:
        """Whether that would be many more than another process has."""
        for count in self._counts:  # noqa: SIM110 - for each connection: no generator, no `min`
            if active > count * AHEAD_TIMES + AHEAD_BY:
                return True
        return False


class Admission:
    """Counts the connections of a process against its limit.

    `loads`: where it tells the daemon's others, and sees theirs, if there are any.
    """

    __slots__ = ("active", "limit", "loads")

    def __init__(self, limit: int, loads: Loads | None = None) -> None:
        self.limit = limit
        self.loads = loads
        self.active = 0

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self.active >= self.limit

    def admit(self) -> bool:
        """Takes a place if there is one; every place is to be released once."""
        if self.full:
            return False
        self.active += 1
        if self.loads is not None:
            self.loads.tell(self.active)
        return True

    def release(self) -> None:
        """Gives a place back."""
        self.active -= 1
        if self.loads is not None:
            self.loads.tell(self.active)

    def stand_back_s(self) -> float:
        """How long the next connection is to be left to others (rule 4 of this module)."""
        if self.loads is None:
            return 0.0
        if self.full:
            return STAND_BACK_FULL_S
        return STAND_BACK_S if self.loads.is_ahead(self.active) else 0.0


@dataclass(slots=True, kw_only=True)
class ListenCounts:
    """Counters for metrics; they only ever grow."""

    accepted: int = 0
    excess: int = 0
    shed: int = 0
    pauses: int = 0


class Listener:
    """Accepts connections on the sockets of a binding, on one loop; takes them over."""

    def __init__(
        self,
        bound: Bound,
        admission: Admission,
        *,
        on_connection: OnConnection,
        on_excess: OnConnection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Both callbacks get the non-blocking socket, which is theirs from then on, and the peer.

        `on_connection` owes the admission a release. `on_excess` is for connections above the
        limit: to close at once, or after a short word.
        """
        self._bound = bound
        self._sockets = bound.sockets
        self._families = {sock: int(sock.family) for sock in self._sockets}
        self._admission = admission
        self._on_connection = on_connection
        self._on_excess = on_excess
        self._loop = loop
        self._reserve: int | None = None
        self._resume: asyncio.TimerHandle | None = None
        self.counts = ListenCounts()

    def start(self) -> None:
        """Begins to accept."""
        self._refill_reserve()
        self._watch()

    def close(self) -> None:
        """Lets go of the listening sockets, for good; who has connected by then is still let in."""
        self._unwatch()
        self._rest()
        if self._sockets:
            self._sockets = ()
            self._bound.close(self._accept_left)

    def _accept_left(self) -> None:
        # Closing would reset those in the backlog, although they have been told they are in.
        self._accept_some(self._bound.sockets, BACKLOG)
        self._rest()

    def _rest(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
        self._give_up_reserve()

    def _watch(self) -> None:
        self._resume = None
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._on_readable, sock)

    def _unwatch(self) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())

    def _on_readable(self, sock: socket.SocketType) -> None:
        for _ in range(ACCEPT_BATCH):
            if (seconds := self._admission.stand_back_s()) > 0:
                self._stand_back(seconds)
                return
            if not self._accept_one(sock):
                return

    def _stand_back(self, seconds: float) -> None:
        if self._resume is None:
            self._unwatch()
            self._resume = self._loop.call_later(seconds, self._take_what_is_left)

    def _take_what_is_left(self) -> None:
        self._resume = None
        batch = LEFT_BATCH if self._admission.full else ACCEPT_BATCH
        try:
            self._accept_some(self._sockets, batch)
        finally:
            if self._resume is None:  # or a pause has begun
                self._watch()

    def _accept_some(self, sockets: Sockets, most: int) -> None:
        for sock in sockets:
            for _ in range(most):
                if not self._accept_one(sock):
                    break

    def _accept_one(self, sock: socket.SocketType) -> bool:
        """Whether to go on: something was waiting, and there was a descriptor for it."""
        try:
            connection, peer = accept_stream(sock, self._families[sock])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                return self._shed(sock)
            if error.errno in _NO_MEMORY:
                self._pause()
                return False
            return True  # the connection died in the backlog: accept(2), "Error handling"
        if self._admission.admit():
            self.counts.accepted += 1
            self._on_connection(connection, peer)
        else:
            self.counts.excess += 1
            self._on_excess(connection, peer)
        return True

    def _shed(self, sock: socket.SocketType) -> bool:
        self._give_up_reserve()
        try:
            connection, _ = accept_stream(sock, self._families[sock])
        except OSError:
            self._refill_reserve()
            self._pause()
            return False
        connection.close()
        self.counts.shed += 1
        self._refill_reserve()
        return True

    def _pause(self) -> None:
        if self._resume is None:
            self.counts.pauses += 1
            self._unwatch()
            self._resume = self._loop.call_later(PAUSE_S, self._watch)

    def _refill_reserve(self) -> None:
        if self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def _give_up_reserve(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
