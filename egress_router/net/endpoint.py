"""Addresses as sockets want them, and the options that every stream of ours carries."""

from __future__ import annotations

import contextlib
import socket
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

# Keepalive 60/10/6: a peer that vanished is noticed two minutes after its last byte, well before
# the timeouts of the stateful firewalls that stand on the way (commonly 5 minutes and more).
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 6

_KEEPALIVE_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
)


_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: close sends RST


def family_of(address: IPAddress) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def socket_address(address: IPAddress, port: int) -> SocketAddress:
    """The tuple that connect and bind take, e.g. `("203.0.113.7", 443)`.

    A zone (`fe80::1%eth0`) becomes its interface index. Raises OSError if there is no such link.
    """
    zone = None if isinstance(address, IPv4Address) else address.scope_id
    if zone is None:
        return _plain_socket_address(address, port)
    index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return (str(address).partition("%")[0], port, 0, index)


@lru_cache(maxsize=4096)
def _plain_socket_address(address: IPAddress, port: int) -> SocketAddress:
    """Remembered: writing an address out costs more than the system call that takes it."""
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)


def render_endpoint(host: object, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    text = str(host)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def arm_reset(sock: socket.socket) -> None:
    """Has the next close send RST: the peer must not take what it got for all."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def push(sock: socket.socket) -> None:
    """Sends what MSG_MORE has held back (tcp(7): setting TCP_NODELAY flushes)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tune_stream(sock: socket.socket) -> None:
    """Sets no-delay, and urgent data in its place in the stream, so that a relay passes it on.

    Connections inherit this and `keep_alive` from their listener.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def keep_alive(sock: socket.socket) -> None:
    """Has the kernel ask a silent peer whether it lives; the silence so far counts (tcp(7))."""
    for level, option, value in _KEEPALIVE_OPTIONS:
        sock.setsockopt(level, option, value)
