"""Listening sockets, and how many of their connections are let in.

1. Connections are counted by us, below half of what the descriptor limit allows: at the kernel's
   own limit asyncio spins and uvloop drops connections without a word.
2. A turn of the loop accepts a bounded number: a burst of new connections does not keep those
   that are open waiting.
3. Out of descriptors all the same: one is kept in reserve, given up for a moment so that the
   waiting connection can be accepted and closed. If even that fails, accepting pauses for a while.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from egress_router.errors import KernelError
from egress_router.net.endpoint import (
    accept_stream,
    family_of,
    keep_alive,
    open_stream,
    socket_address,
    tune_stream,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from egress_router.net.endpoint import IPAddress

    OnConnection: TypeAlias = Callable[[socket.SocketType, tuple[str, int]], object]

BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn; a burst of reconnects fits
ACCEPT_BATCH = 32  # some 0.3 ms of a turn
PAUSE_S = 0.2  # without descriptors even for the reserve; recovery is owed within a second
DESCRIPTORS_KEPT = 320  # pipes of the relays (128, two each), the resolver's sockets, logs, admin

_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_NO_MEMORY = {errno.ENOBUFS, errno.ENOMEM}
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_LOW_PORT_REMEDY = (
    "give the pod the sysctl net.ipv4.ip_unprivileged_port_start=0, or choose a port above 1023"
)


def connection_limit(descriptor_limit: int, wanted: int | None = None) -> int:
    """How many connections to admit, each of them two descriptors; at least 1.

    `descriptor_limit` is the soft RLIMIT_NOFILE; `wanted` may only lower the result.
    """
    kept = min(DESCRIPTORS_KEPT, descriptor_limit // 2)
    possible = max(1, (descriptor_limit - kept) // 2)
    return possible if wanted is None else max(1, min(wanted, possible))


def open_listeners(
    addresses: Sequence[IPAddress], port: int, *, link: str | None = None, shared: bool = False
) -> tuple[socket.SocketType, ...]:
    """One listening socket for each address; `::` is passed over where the kernel has no IPv6.

    With a `link` only what arrives by it is heard: Linux answers for an address of one link on
    every other one (the weak host model, RFC 1122 §3.3.4.2). `shared`: other processes of the same
    user may listen there too, and the kernel spreads connections over them (socket(7)). Raises
    KernelError naming address and port. On an error none is left open.
    """
    opened: list[socket.SocketType] = []
    with contextlib.ExitStack() as undo:
        for address in addresses:
            try:
                sock = _open(address, port, link, shared=shared)
            except OSError as error:
                optional = len(addresses) > 1 and address == IPv6Address("::")
                if optional and error.errno in _NO_IPV6:
                    continue
                raise _refused(address, port, error) from error
            undo.callback(sock.close)
            opened.append(sock)
        undo.pop_all()
    return tuple(opened)


class Admission:
    """Counts the connections of a daemon against its limit."""

    __slots__ = ("active", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = 0

    def admit(self) -> bool:
        """Takes a place if there is one; every place is to be released once."""
        if self.active >= self.limit:
            return False
        self.active += 1
        return True

    def release(self) -> None:
        """Gives a place back."""
        self.active -= 1


@dataclass(slots=True, kw_only=True)
class ListenCounts:
    """Counters for metrics; they only ever grow."""

    accepted: int = 0
    excess: int = 0
    shed: int = 0
    pauses: int = 0


class Listener:
    """Accepts connections on some sockets, on one loop; takes the sockets over."""

    def __init__(
        self,
        sockets: Iterable[socket.SocketType],
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
        self._sockets = tuple(sockets)
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
        """Accepts what has already connected, then closes the listening sockets, for good."""
        for sock in self._sockets:
            # Closing would reset those in the backlog, although they have been told they are in.
            for _ in range(BACKLOG):
                if not self._accept_one(sock):
                    break
        self._unwatch()
        if self._resume is not None:
            self._resume.cancel()
        for sock in self._sockets:
            sock.close()
        self._sockets = ()
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
            if not self._accept_one(sock):
                return

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


def _open(address: IPAddress, port: int, link: str | None, *, shared: bool) -> socket.SocketType:
    sock = open_stream(family_of(address))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        tune_stream(sock)
        keep_alive(sock)
        if link is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode() + b"\0")
        sock.bind(socket_address(address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(address: IPAddress, port: int, error: OSError) -> KernelError:
    remedy = {
        errno.EADDRINUSE: f"another program of the pod listens on port {port}; choose another one",
        errno.EACCES: _LOW_PORT_REMEDY,
        errno.EPERM: _LOW_PORT_REMEDY,
    }.get(error.errno or 0, "")
    return KernelError(
        f"listen on {address} port {port}",
        error.strerror or "failed",
        errno=error.errno,
        remedy=remedy,
    )
