"""Readiness of all connections of a daemon, edge by edge, from an epoll of its own.

1. A descriptor is registered once, for everything: one system call, and one more for each new
   owner, for the kernel unregisters what is closed. The event loop's own watchers cost three to
   five for each change of mind.
2. An edge is told once. Whoever watches reads or writes until the kernel says EAGAIN, or remembers
   that there may be more. A new owner is told anew. Owners are objects and not functions: a bound
   method would be made for each socket, and cost several times as much to call.
3. The event loop watches the epoll itself, which is readable while edges wait (epoll(7)).
4. A watcher that raises is reported to the loop; the others of the same turn are not concerned.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    import socket

# For watchers: what makes a read, or a write, worth a try. An error makes both.
READABLE: Final = (
    select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
)
WRITABLE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
# After one of these a short read does not mean that nothing is left: behind it stands the end, an
# error, or an urgent byte, at which a read stops.
UNEVEN: Final = select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

ENDING: Final = select.EPOLLRDHUP  # the peer has sent its last byte

_ALL: Final = (
    select.EPOLLIN | select.EPOLLOUT | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
)
BATCH: Final = (
    128  # edges in one turn of the loop, some 4 ms; timers and other readers come between
)


class Watcher:
    """Owns sockets, and is told what has become of them."""

    __slots__ = ()

    def on_edge(self, descriptor: int, events: int) -> None:
        """One of them has become readable or writable, or has ended (epoll_ctl(2))."""
        raise NotImplementedError


class Poller:
    """Tells the owners of sockets what has become of them; one for each event loop."""

    __slots__ = ("_epoll", "_fresh", "_turning", "_watchers", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._fresh: set[int] = (
            set()
        )  # watched anew since the last poll: its edges are those of another owner
        self._turning = False
        loop.add_reader(self._epoll.fileno(), self._turn)

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(self, descriptor: int, watcher: Watcher, *, read_out: bool = False) -> None:
        """From now on it is told of each edge, and whoever was before is not.

        Begins with what is the case already, also if that has been told before; not where all that
        was told has been `read_out`.
        """
        if descriptor not in self._watchers:
            self._epoll.register(descriptor, _ALL)
        elif read_out:
            self._watchers[descriptor] = watcher
            return
        else:
            try:
                self._epoll.modify(descriptor, _ALL)
            except FileNotFoundError:  # closed without a word, and the number is another's now
                self._epoll.register(descriptor, _ALL)
        self._watchers[descriptor] = watcher
        if self._turning:
            self._fresh.add(descriptor)

    def forget(self, descriptor: int) -> None:
        """Tells nothing more of a descriptor; its owner closes it at once."""
        self._watchers.pop(descriptor, None)

    def discard(self, sock: socket.SocketType) -> None:
        """Forgets a socket and closes it."""
        self.forget(sock.fileno())
        sock.close()

    def close(self) -> None:
        """Watches nothing any more."""
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._watchers.clear()

    def _turn(self) -> None:
        self._turning = True
        left = BATCH
        try:
            # Again and again: what has come meanwhile costs less now than by the loop's next turn.
            while left > 0 and (edges := self._epoll.poll(0, left)):
                left -= len(edges)
                self._fresh.clear()
                self._tell(edges)
                if len(edges) == 1:
                    return  # there is not much going on: to ask in vain would cost more
        finally:
            self._turning = False

    def _tell(self, edges: list[tuple[int, int]]) -> None:
        watchers, fresh = self._watchers, self._fresh
        for descriptor, events in edges:
            watcher = watchers.get(descriptor)
            if watcher is None or descriptor in fresh:
                continue
            try:
                watcher.on_edge(descriptor, events)
            except Exception as error:  # noqa: BLE001 - rule 4: the loop's handler logs it
                self.loop.call_exception_handler(
                    {"message": "handler of a connection", "exception": error}
                )
