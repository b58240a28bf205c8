"""Addresses as sockets want them, and the options that every stream of ours carries."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

# Keepalive 60/10/6: a peer that vanished is noticed two minutes after its last byte, well before
# the timeouts of the stateful firewalls that stand on the way (commonly 5 minutes and more).
KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 6

_KEEPALIVE_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
)


_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: close sends RST


_AF_INET: Final = int(socket.AF_INET)
_AF_INET6: Final = int(socket.AF_INET6)
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_NEW_STREAM: Final = int(_STREAM | socket.SOCK_CLOEXEC)
_SOL_SOCKET: Final = int(socket.SOL_SOCKET)
_SO_OOBINLINE: Final = int(socket.SO_OOBINLINE)
_IPPROTO_TCP: Final = int(socket.IPPROTO_TCP)
_TCP_NODELAY: Final = int(socket.TCP_NODELAY)
_TCP_QUICKACK: Final = int(socket.TCP_QUICKACK)

# Names of other modules are looked up at each call, in compiled code as well.
_Socket: Final = socket.SocketType
_set_blocking: Final = os.set_blocking


def open_stream(family: int) -> socket.SocketType:
    """A non-blocking TCP socket of one of the families AF_INET and AF_INET6.

    The interpreter's own type: `socket.socket` adds files and enumerations to it, at a cost that
    shows when there is a socket for each connection of a proxy.
    """
    return _Socket(family, _NEW_STREAM)


def accept_stream(listener: socket.SocketType) -> tuple[socket.SocketType, tuple[str, int]]:
    """The next connection, non-blocking, and its peer's address and port; raises OSError.

    What `socket.socket.accept` does, of which the method here is the part that calls the kernel.
    """
    descriptor, peer = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    _set_blocking(descriptor, False)
    return _Socket(listener.family, _STREAM, 0, descriptor), peer[:2]


def family_of(address: IPAddress) -> int:
    """AF_INET or AF_INET6, as plain numbers."""
    return _AF_INET if isinstance(address, IPv4Address) else _AF_INET6


def socket_address(address: IPAddress, port: int) -> SocketAddress:
    """The tuple that connect and bind take, e.g. `("203.0.113.7", 443)`.

    A zone (`fe80::1%eth0`) becomes its interface index. Raises OSError if there is no such link.
    """
    zone = None if isinstance(address, IPv4Address) else address.scope_id
    if zone is None:
        plain = (str(address), port)
        return plain if isinstance(address, IPv4Address) else (*plain, 0, 0)
    index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return (str(address).partition("%")[0], port, 0, index)


def render_endpoint(host: object, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    text = str(host)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def arm_reset(sock: socket.SocketType) -> None:
    """Has the next close send RST: the peer must not take what it got for all."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def push(sock: socket.SocketType) -> None:
    """Sends what MSG_MORE has held back (tcp(7): setting TCP_NODELAY flushes)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)


def tune_stream(sock: socket.SocketType) -> None:
    """Sets no-delay, and urgent data in its place in the stream, so that a relay passes it on.

    Connections inherit this and `keep_alive` from their listener.
    """
    sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
    sock.setsockopt(_SOL_SOCKET, _SO_OOBINLINE, 1)


def hold_ack(sock: socket.SocketType) -> None:
    """Before connect: what ends the handshake goes out with the first bytes, in one packet.

    To be followed by bytes or by `release_ack` at once: until then the server has no connection,
    and one that speaks first says nothing. The kernel waits 200 ms at most (tcp(7), TCP_QUICKACK).
    What comes back is acknowledged 40 ms late then, until `release_ack` is called.
    """
    sock.setsockopt(_IPPROTO_TCP, _TCP_QUICKACK, 0)


def release_ack(sock: socket.SocketType) -> None:
    """Acknowledges now what there is to acknowledge, and what comes next without delay."""
    with contextlib.suppress(OSError):
        sock.setsockopt(_IPPROTO_TCP, _TCP_QUICKACK, 1)


def keep_alive(sock: socket.SocketType) -> None:
    """Has the kernel ask a silent peer whether it lives; the silence so far counts (tcp(7))."""
    for level, option, value in _KEEPALIVE_OPTIONS:
        sock.setsockopt(level, option, value)
