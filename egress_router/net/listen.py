"""Listening sockets, and how many of their connections are let in.

1. Connections are counted by us, below half of what the descriptor limit allows: at the kernel's
   own limit asyncio spins and uvloop drops connections without a word.
2. A turn of the loop accepts a bounded number: a burst of new connections does not keep those
   that are open waiting. It is as many as have lately been there: to ask for one more in vain
   costs as much as a turn for it would.
3. Out of descriptors all the same: one is kept in reserve, given up for a moment so that the
   waiting connection can be accepted and closed. If even that fails, accepting pauses for a while.
4. Where other processes accept from the same sockets, who has many more connections open than
   another one leaves the next to it for a moment: those that stay open would all be with whoever
   wakes up first. What is still there then shows that nobody else has time, and for a while it
   takes what comes. Who is at its limit leaves it too; what is still there is beyond all limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.net.binding import BACKLOG
from egress_router.net.endpoint import accept_stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from egress_router.net.binding import Bound

    OnConnection: TypeAlias = Callable[[socket.SocketType, tuple[str, int]], object]

# In one turn: whoever else listens there, and may be idle, takes the next ones.
ACCEPT_BATCH: Final = 8
BATCHES_USED_UP: Final = 4  # one after the other, and the next one is twice as large
LEFT_BATCH: Final = 64  # beyond the limit, and left by others: turned away in one turn
STAND_BACK_S: Final = 0.001  # longer than an idle process takes to wake up
STAND_BACK_FULL_S: Final = 0.02
ALONE_S: Final = 0.05  # from a connection that nobody else took to the next that is left to others
# Another's number of connections so often, and these, are many more.
AHEAD_TIMES: Final = 1.5
AHEAD_BY: Final = 4
PAUSE_S: Final = 0.2  # without descriptors even for the reserve; recovery is owed within a second
# Pipes of the relays (128, two each), the resolver's sockets, logs, admin.
DESCRIPTORS_KEPT: Final = 320

_NO_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE}
_NO_MEMORY: Final = {errno.ENOBUFS, errno.ENOMEM}


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

    def fair(self) -> int:
        """How many are not many more than any other process has."""
        return int(min(self._counts) * AHEAD_TIMES) + AHEAD_BY


class Admission:
    """Counts the connections of a process against its limit.

    `loads`: where it tells the daemon's others, and sees theirs, if there are any.
    """

    __slots__ = ("_emptied", "active", "limit", "loads")

    def __init__(self, limit: int, loads: Loads | None = None) -> None:
        self.limit = limit
        self.loads = loads
        self.active = 0
        self._emptied: asyncio.Event | None = None  # of who waits for it

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
        if not self.active and self._emptied is not None:
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Returns when every place has been given back; for one caller."""
        self._emptied = asyncio.Event()
        while self.active:
            self._emptied.clear()
            await self._emptied.wait()
        self._emptied = None

    def share(self, *, fair: bool) -> int | None:
        """With more open than that, the next connection is left to others; None: never is."""
        if self.loads is None:
            return None
        last = self.limit - 1
        return min(self.loads.fair(), last) if fair else last


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
        self._admission = admission
        self._on_connection = on_connection
        self._on_excess = on_excess
        self._loop = loop
        self._reserve: int | None = None
        # When to go on: with what was left to others, or, if that is nothing, after a pause.
        self._resume: asyncio.TimerHandle | None = None
        self._left: list[socket.SocketType] = []
        self._alone: asyncio.TimerHandle | None = None  # nobody else has time
        self._batch = 1
        self._used_up = 0
        self.counts = ListenCounts()

    def start(self) -> None:
        """Begins to accept."""
        self._refill_reserve()
        self._watch(self._sockets)

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
        for timer in (self._resume, self._alone):
            if timer is not None:
                timer.cancel()
        self._give_up_reserve()

    def _watch(self, sockets: Iterable[socket.SocketType]) -> None:
        if self._resume is not None or not self._sockets:
            return  # meanwhile a pause has begun, or the end come
        for sock in sockets:
            self._loop.add_reader(sock.fileno(), self._on_readable, sock)

    def _unwatch(self) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())

    def _on_readable(self, sock: socket.SocketType) -> None:
        admission = self._admission
        share = admission.share(fair=self._alone is None)
        for number in range(self._batch):
            if share is not None and admission.active > share:
                self._leave(sock)
                return
            if not self._accept_one(sock) or not self._sockets:  # or it has been closed
                self._batch, self._used_up = max(number, 1), 0
                return
        self._used_up += 1
        if self._used_up == BATCHES_USED_UP:
            self._batch, self._used_up = min(2 * self._batch, ACCEPT_BATCH), 0

    def _leave(self, sock: socket.SocketType) -> None:
        """Leaves what waits there to others, for a moment."""
        self._loop.remove_reader(sock.fileno())
        self._left.append(sock)
        if self._resume is None:
            seconds = STAND_BACK_FULL_S if self._admission.full else STAND_BACK_S
            self._resume = self._loop.call_later(seconds, self._take_what_is_left)

    def _take_what_is_left(self) -> None:
        self._resume = None
        left, self._left = self._left, []
        batch = LEFT_BATCH if self._admission.full else ACCEPT_BATCH
        accepted = self.counts.accepted
        try:
            self._accept_some(left, batch)
        finally:
            self._watch(left)
        if self.counts.accepted > accepted and self._alone is None:
            self._alone = self._loop.call_later(ALONE_S, self._expect_others)

    def _expect_others(self) -> None:
        self._alone = None

    def _accept_some(self, sockets: Iterable[socket.SocketType], most: int) -> None:
        for sock in sockets:
            for _ in range(most):
                if not self._accept_one(sock):
                    break

    def _accept_one(self, sock: socket.SocketType) -> bool:
        """Whether to go on: something was waiting, and there was a descriptor for it."""
        try:
            connection, peer = accept_stream(sock)
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
            connection, _ = accept_stream(sock)
        except OSError:
            self._refill_reserve()
            self._pause()
            return False
        connection.close()
        self.counts.shed += 1
        self._refill_reserve()
        return True

    def _pause(self) -> None:
        if self._resume is not None:
            if not self._left:
                return  # it is one already
            self._resume.cancel()
            self._left.clear()
        self.counts.pauses += 1
        self._unwatch()
        self._resume = self._loop.call_later(PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        self._watch(self._sockets)

    def _refill_reserve(self) -> None:
        if self._reserve is None:
            with contextlib.suppress(OSError):
                self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def _give_up_reserve(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
