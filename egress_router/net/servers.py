"""Asking one nameserver, and remembering which ones are worth asking first.

1. Every query has a socket, a source port and an id of its own: the socket is connected, so the
   kernel drops what comes from elsewhere; port and id come from the system's generators
   (RFC 5452, section 9.2).
2. A foreign answer is counted and passed over. Deadlines are the caller's.
3. A server that kept silent goes behind the others for a while; one that answered over TCP alone
   is asked over TCP at once for a while.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.net.endpoint import family_of, socket_address
from egress_router.net.ready import wait_readable, wait_writable
from egress_router.net.scan import MalformedAnswerError
from egress_router.net.wire import (
    TCP_ANSWER_MAX_BYTES,
    UDP_ANSWER_MAX_BYTES,
    ForeignAnswerError,
    parse_answer,
    render_query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.resolv_conf import Nameserver
    from egress_router.net.wire import Answer, Query

DEMOTED_S = 30.0  # a dead server costs one caller in half a minute its 0.8 s
TCP_ONLY_S = 300.0
PLAIN_S = 300.0  # how long a server that refused EDNS is asked without it


@dataclass(slots=True, kw_only=True)
class ResolverCounts:
    """Counters for metrics; they only ever grow."""

    queries: int = 0
    foreign: int = 0
    malformed: int = 0
    timeouts: int = 0
    tcp: int = 0
    stale_served: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One nameserver; `answered`: whether it did the last time, None if it was never asked."""

    server: Nameserver
    answered: bool | None


@dataclass(slots=True, kw_only=True)
class _Standing:
    answered: bool | None = None
    demoted_until: float = 0.0
    tcp_until: float = 0.0
    plain_until: float = 0.0


class Standings:
    """What we have learned about the nameservers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of: dict[Nameserver, _Standing] = {}

    def order(self, servers: tuple[Nameserver, ...]) -> tuple[Nameserver, ...]:
        """The configured order, with those that kept silent lately behind the rest."""
        now = self._clock()
        self._of = {server: self._of.get(server) or _Standing() for server in servers}
        return tuple(sorted(servers, key=lambda server: self._of[server].demoted_until > now))

    def note_silent(self, server: Nameserver) -> None:
        """It did not answer over the transport it was asked on."""
        standing = self._standing(server)
        standing.answered, standing.demoted_until = False, self._clock() + DEMOTED_S

    def note_answered(self, server: Nameserver) -> None:
        """It answered, whatever it said."""
        standing = self._standing(server)
        standing.answered, standing.demoted_until = True, 0.0

    def note_tcp_only(self, server: Nameserver) -> None:
        """It kept silent over UDP and answered over TCP."""
        self._standing(server).tcp_until = self._clock() + TCP_ONLY_S

    def note_plain(self, server: Nameserver) -> None:
        """It does not know EDNS."""
        self._standing(server).plain_until = self._clock() + PLAIN_S

    def states(self, servers: tuple[Nameserver, ...]) -> tuple[ServerState, ...]:
        """How each of them was met the last time."""
        unknown = _Standing()
        return tuple(
            ServerState(server=server, answered=self._of.get(server, unknown).answered)
            for server in servers
        )

    def prefers_tcp(self, server: Nameserver) -> bool:
        """Whether to spare the UDP try."""
        return self._standing(server).tcp_until > self._clock()

    def knows_edns(self, server: Nameserver) -> bool:
        """Whether to announce a UDP size."""
        return self._standing(server).plain_until <= self._clock()

    def _standing(self, server: Nameserver) -> _Standing:
        return self._of.setdefault(server, _Standing())


async def ask_udp(server: Nameserver, query: Query, counts: ResolverCounts) -> Answer:
    """The server's answer to one datagram; waits for the right one until cancelled.

    Raises OSError (nobody listens, no route) and MalformedAnswerError.
    """
    with _open(server, socket.SOCK_DGRAM) as sock:
        sock.connect(socket_address(server.address, server.port))
        sock.send(render_query(query))
        while True:
            await wait_readable(sock)
            try:
                # One byte more than allowed, so that a longer one shows as longer.
                data = sock.recv(UDP_ANSWER_MAX_BYTES + 1)
            except BlockingIOError:
                continue
            try:
                return parse_answer(data, query, limit=UDP_ANSWER_MAX_BYTES)
            except ForeignAnswerError:
                counts.foreign += 1


async def ask_tcp(server: Nameserver, query: Query, counts: ResolverCounts) -> Answer:
    """The server's answer over a connection of its own; waits until cancelled.

    Raises OSError and MalformedAnswerError; the latter also for a message longer than we read.
    """
    with _open(server, socket.SOCK_STREAM) as sock:
        await _connect(sock, server)
        message = render_query(query)
        # A handful of bytes on a new connection: the send buffer takes them whole.
        sock.sendall(len(message).to_bytes(2) + message)
        while True:
            length = int.from_bytes(await _receive_exactly(sock, 2))
            if length > TCP_ANSWER_MAX_BYTES:
                raise MalformedAnswerError(f"a message of {length} bytes")
            data = await _receive_exactly(sock, length)
            try:
                return parse_answer(data, query, limit=TCP_ANSWER_MAX_BYTES)
            except ForeignAnswerError:
                counts.foreign += 1


def _open(server: Nameserver, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(
        family_of(server.address), kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )


async def _connect(sock: socket.socket, server: Nameserver) -> None:
    try:
        sock.connect(socket_address(server.address, server.port))
    except BlockingIOError:
        await wait_writable(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, "connecting to the nameserver failed") from None


async def _receive_exactly(sock: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        await wait_readable(sock)
        try:
            piece = sock.recv(length - len(data))
        except BlockingIOError:
            continue
        if not piece:
            raise ConnectionResetError("the nameserver hung up within a message")
        data += piece
    return bytes(data)
