"""Tying sockets to where upstream connections leave from: the source address and the link."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from egress_router.net.endpoint import socket_address

if TYPE_CHECKING:
    from ipaddress import IPv6Address

    from egress_router.net.endpoint import IPAddress, SocketAddress

_SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
# linux/if.h
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
LATELY_S: Final = 0.02  # a busy proxy would ask for each connection, at the cost of a system call
_IFREQ: Final = struct.Struct("16sH22x")  # name and flags of struct ifreq, netdevice(7)
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h; Python has the name from 3.12 on
_monotonic: Final = time.monotonic
_SOL_SOCKET: Final = int(socket.SOL_SOCKET)
_SO_BINDTODEVICE: Final = int(socket.SO_BINDTODEVICE)
_IPPROTO_IP: Final = int(socket.IPPROTO_IP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where upstream connections leave from: a source for each family we have, and the link.

    `link=None` leaves the choice of the link to routing.
    """

    source4: IPv4Address | None = None
    source6: IPv6Address | None = None
    link: str | None = None
    # As the system calls take them: made once, used for every connection.
    device: bytes | None = field(init=False, repr=False)
    _bound: tuple[SocketAddress | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        device = None if self.link is None else self.link.encode() + b"\0"
        sources = (self.source4, self.source6)
        bound = tuple(None if one is None else socket_address(one, 0) for one in sources)
        object.__setattr__(self, "device", device)
        object.__setattr__(self, "_bound", bound)

    def source_for(self, address: IPAddress) -> IPAddress | None:
        """The source of the address's family."""
        return self.source4 if isinstance(address, IPv4Address) else self.source6

    def bound(self, address: IPAddress) -> SocketAddress | None:
        """The source of the address's family as `bind` takes it, the port left open."""
        return self._bound[0 if isinstance(address, IPv4Address) else 1]


def bind_to(sock: socket.SocketType, egress: Egress, address: IPAddress) -> None:
    """Ties a socket to the link and to the source of the address's family."""
    bind_stream(sock, egress.device, egress.bound(address))


def bind_stream(
    sock: socket.SocketType, device: bytes | None, source: SocketAddress | None
) -> None:
    """Ties a socket to a link and to a source address, as `Egress` has them; the port stays open.

    The kernel picks the port at connect, when it knows the whole four-tuple: without that option
    one source address would have 28,000 ports for all destinations together.
    """
    if device is not None:
        sock.setsockopt(_SOL_SOCKET, _SO_BINDTODEVICE, device)
    if source is None:
        return
    sock.setsockopt(_IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind(source)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise OSError(errno.ENETDOWN, f"the source address {source[0]} is gone") from error
        raise


class LinkProbe:
    """Asks the kernel whether a link carries anything, in a microsecond and without privilege."""

    __slots__ = ("_good_until", "_sock")

    def __init__(self) -> None:
        self._sock = socket.SocketType(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._good_until = 0.0

    def carried_lately(self, link: str) -> bool:
        """Whether the link carries, or did so within the last 20 ms."""
        now = _monotonic()
        if now < self._good_until:
            return True
        if self.trouble(link):
            return False
        self._good_until = now + LATELY_S
        return True

    def trouble(self, link: str) -> str:
        """`macvlan0 is down`, or empty if it is up and has its carrier."""
        self._good_until = 0.0
        try:
            answer = fcntl.ioctl(self._sock, _SIOCGIFFLAGS, _IFREQ.pack(link.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return f"{link} does not exist"
            return f"{link} cannot be looked at: {error.strerror}"
        _, flags = _IFREQ.unpack(answer)
        if not flags & _IFF_UP:
            return f"{link} is down"
        return "" if flags & _IFF_RUNNING else f"{link} has no carrier"

    def close(self) -> None:
        """Closes the socket it asks through."""
        self._sock.close()
