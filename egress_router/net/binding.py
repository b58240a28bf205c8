"""Where a daemon listens, and the sockets for that.

Linux answers for an address of one link on every other one (the weak host model, RFC 1122
§3.3.4.2), so sockets are bound to a link where it matters by which one a client comes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from egress_router.errors import KernelError
from egress_router.net.endpoint import (
    family_of,
    keep_alive,
    open_stream,
    socket_address,
    tune_stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.endpoint import IPAddress

    Sockets: TypeAlias = tuple[socket.SocketType, ...]
    LetGo: TypeAlias = Callable[[Callable[[], object]], object]

BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn; a burst of reconnects fits

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_LOW_PORT_REMEDY = (
    "give the pod the sysctl net.ipv4.ip_unprivileged_port_start=0, or choose a port above 1023"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A port of these addresses; with `links`, for what arrives by one of them."""

    addresses: tuple[IPAddress, ...]
    port: int
    links: tuple[str, ...] = ()


def nobody() -> None:
    """Accepts nothing."""


class Bound:
    """The listening sockets of a binding, until whoever listens there lets go of them."""

    __slots__ = ("_let_go", "sockets")

    def __init__(self, sockets: Sockets, let_go: LetGo | None = None) -> None:
        """`let_go` is called instead of closing the sockets: others may listen on them too."""
        self.sockets = sockets
        self._let_go = let_go

    def close(self, accept_left: Callable[[], object] = nobody) -> None:
        """Listens no more; to be called once.

        `accept_left` takes what still waits to be accepted. It is called before the kernel closes
        the port, which may be later, and never where another process does that.
        """
        if self._let_go is not None:
            self._let_go(accept_left)
        else:
            accept_left()
            close_all(self.sockets)


def open_listeners(binding: Binding) -> Sockets:
    """A listening socket for each link and address.

    `::` is passed over where the kernel has no IPv6, if it is not all there is. Raises KernelError
    naming address and port. On an error none is left open.
    """
    opened: list[socket.SocketType] = []
    with contextlib.ExitStack() as undo:
        for link in binding.links or (None,):
            for address in binding.addresses:
                try:
                    sock = _open(address, binding.port, link)
                except OSError as error:
                    optional = len(binding.addresses) > 1 and address == IPv6Address("::")
                    if optional and error.errno in _NO_IPV6:
                        continue
                    raise _refused(address, binding.port, error) from error
                undo.callback(sock.close)
                opened.append(sock)
        undo.pop_all()
    return tuple(opened)


def close_all(sockets: Sockets) -> None:
    """Closes them all."""
    for sock in sockets:
        sock.close()


def _open(address: IPAddress, port: int, link: str | None) -> socket.SocketType:
    sock = open_stream(family_of(address))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
