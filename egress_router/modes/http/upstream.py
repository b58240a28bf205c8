"""A connection to a server, and the heads of its answers.

1. It belongs to the client connection that opened it. It is used again for the same target, and
   only if its address is among those that the new decision allows, and only if the server has been
   silent since its last answer (RFC 9112 §9.2).
2. A head with the same bytes as the last one on this connection is that head, and not read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.modes.http.failure import upstream_failure
from egress_router.modes.http.prepared import REPEATED_MAX_BYTES
from egress_router.net.endpoint import keep_alive
from egress_router.net.http1.answers import ProxyError
from egress_router.net.http1.connection import SWITCHING
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.head_reader import response_reader
from egress_router.net.stream import Stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from egress_router.modes.http.prepared import PreparedAnswer
    from egress_router.net.http1.head import ResponseHead
    from egress_router.net.http1.lines import HeadLimits
    from egress_router.net.poller import Poller
    from egress_router.policy.prefixes import IPAddress
    from egress_router.policy.rules import Decision
    from egress_router.policy.target import Target

INTERIM_MAX = 32  # answers 1xx to one request; a server that sends more of them plays a game


class DiedError(Exception):
    """A server's connection ended before the first byte of an answer."""


class Upstream:
    """One connection; `prepared` is what became of its last answer."""

    __slots__ = ("_seen", "address", "alive", "prepared", "stream", "target", "used")

    def __init__(
        self,
        sock: socket.SocketType,
        target: Target,
        address: IPAddress,
        poller: Poller,
    ) -> None:
        keep_alive(sock)
        self.stream = Stream(sock, poller)
        self.target = target
        self.address = address
        self.used = False
        self.alive = True
        self.prepared: PreparedAnswer | None = None
        self._seen = b""  # the bytes of the head that `prepared` was made of

    def serves(self, target: Target, decision: Decision) -> bool:
        """Whether the next request may go this way (rule 1)."""
        return (
            self.alive
            and target == self.target
            and self.address in decision.addresses
            and self.stream.is_silent()
        )

    async def read_head(
        self, limits: HeadLimits, pass_interim: Callable[[ResponseHead], Awaitable[None]]
    ) -> tuple[ResponseHead, bytes]:
        """The head of the final answer, or of a switch, and what came behind it.

        Raises DiedError, FailureError where the connection ends within a head, and
        UpstreamProtocolError.
        """
        data = first = await self._read(begun=False)
        seen = self._seen
        if seen and self.prepared is not None and data.startswith(seen):
            return self.prepared.head, data[len(seen) :]
        reader, interim = response_reader(limits), 0
        while True:
            head = reader.feed(data)
            if head is None:
                data, first = await self._read(begun=True), b""
            elif head.status >= 200 or head.status == SWITCHING:
                size = len(first) - len(reader.tail)
                self._seen = first[:size] if 0 < size <= REPEATED_MAX_BYTES else b""
                self.prepared = None
                return head, reader.tail
            else:
                interim += 1
                if interim > INTERIM_MAX:
                    raise UpstreamProtocolError(f"more than {INTERIM_MAX} interim answers")
                await pass_interim(head)
                data, reader, first = reader.tail, response_reader(limits), b""

    def rest(self) -> None:
        """Between two requests: whatever the server says now ends the connection."""
        self.used = True
        self.stream.on_unasked = self.close
        self.stream.watch()

    def close(self, *, reset: bool = False) -> None:
        """Ends it."""
        self.alive = False
        self.stream.close(reset=reset)

    async def _read(self, *, begun: bool) -> bytes:
        try:
            data = await self.stream.read()
        except OSError as error:
            if begun:
                reason = f"the server broke off its answer: {error.strerror}"
                raise upstream_failure(502, ProxyError.HTTP_RESPONSE_INCOMPLETE, reason) from error
            raise DiedError from error
        if data:
            return data
        if begun:
            reason = "the server closed its connection within the head of its answer"
            raise upstream_failure(502, ProxyError.HTTP_RESPONSE_INCOMPLETE, reason)
        raise DiedError
