"""One client connection: reads its requests in order and serves each, by tunnel or by exchange.

0. It has no task before its first bytes, and none at all if they ask for a tunnel that is known
   (shortcut.py).
1. CONNECT ends the requests of a connection: it becomes a tunnel, or is answered and closed, so
   that the bytes behind a refused CONNECT are never read as a request (RFC 9931).
2. While a request is served, what else the client sends is kept, up to READ_BYTES; beyond that it
   waits in the kernel. The end of its stream means that it has left: whatever was being done for
   it is dropped.
3. Every request has one line in the log, and every connection gives its place back once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

from egress_router.errors import RefusalError
from egress_router.modes.http.answers import render_failure
from egress_router.modes.http.exchange import serve_exchange
from egress_router.modes.http.failure import ExpiredError, FailureError, failure_of_refusal
from egress_router.modes.http.ledger import REFUSED, TUNNEL, Record
from egress_router.modes.http.prepared import REPEATED_MAX_BYTES
from egress_router.modes.http.shortcut import KnownTunnel, Shortcut
from egress_router.modes.http.tunnels import Tunnel
from egress_router.modes.http.watchdog import Phase, Watchdog
from egress_router.net.endpoint import render_endpoint
from egress_router.net.http1.answers import TUNNEL_ESTABLISHED, ProxyError
from egress_router.net.http1.connection import keeps_alive
from egress_router.net.http1.framing import NO_BODY, request_framing
from egress_router.net.http1.head import HTTP_1_1, RequestHead
from egress_router.net.http1.head_reader import request_reader
from egress_router.net.stream import READ_BYTES, Stream
from egress_router.policy.target import check_host_fields, parse_authority

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from egress_router.modes.http.prepared import PreparedRequest
    from egress_router.modes.http.shared import Shared
    from egress_router.modes.http.upstream import Upstream
    from egress_router.net.dial import Dial
    from egress_router.net.http1.head_reader import HeadReader

# Our answers to requests that were sound: what follows them on the connection is the next one.
_SOUND_REQUEST: Final = frozenset((403, 405, 417, 502, 504, 508))
# Read and dropped behind a last answer, so that no reset overtakes it.
LINGER_BYTES: Final = 1 << 20


class Client:
    """One client connection, served by the task `task`."""

    __slots__ = (
        "_handed_over",
        "_repeated",
        "_whole",
        "buffer",
        "idle",
        "left",
        "lingers",
        "peer",
        "prepared",
        "shared",
        "shortcut",
        "stream",
        "task",
        "upstream",
        "watchdog",
    )

    def __init__(self, sock: socket.SocketType, peer: tuple[str, int], shared: Shared) -> None:
        self.shared = shared
        self.stream = Stream(sock, shared.poller)
        self.peer = render_endpoint(*peer)
        self.buffer = b""
        self.upstream: Upstream | None = None
        self.left = False
        self.lingers = False
        self.idle = False
        self.task: asyncio.Task[None] | None = None
        self.shortcut: Shortcut | None = None
        self.watchdog = Watchdog(shared.wheel, shared.ticks, self._expire)
        self._handed_over = False
        self._whole = b""  # the very bytes of the last head, if nothing was behind it
        self._repeated: dict[bytes, RequestHead] = {}  # the last head, by its very bytes
        self.prepared: PreparedRequest | None = None
        shared.clients.add(self)

    def begin(self) -> None:
        """Waits for the first bytes."""
        self.stream.on_unasked = self._take_first
        self.stream.watch()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Goes on in a task."""
        self.stream.on_unasked = self._take_unasked
        self.task = self.shared.start(coroutine)

    async def serve(self) -> None:
        """Serves requests until the connection ends or becomes a tunnel."""
        try:
            while await self._serve_one():
                self.watchdog.enter(Phase.KEEPALIVE)
            if self.lingers:  # only now: how long a client takes to leave is no part of a request
                await self._linger()
        except (OSError, ExpiredError):
            pass  # the client is gone, or has been silent; its request has its line
        finally:
            self.end()

    async def serve_failure(self, record: Record, failure: FailureError) -> None:
        """Tells the client why there is no tunnel, and closes."""
        try:
            try:
                await self._refuse(record, failure, None)
            finally:
                self.shared.ledger.close(record)
            await self._linger()
        except (OSError, ExpiredError):
            pass
        finally:
            self.end()

    def close_if_idle(self) -> None:
        """Ends a connection that waits for its next request."""
        if self.idle and self.task is not None:
            self.task.cancel()

    def cut(self) -> None:
        """Ends the connection whatever it does."""
        if self.task is not None:
            self.task.cancel()
            return
        shortcut, self.shortcut = self.shortcut, None
        if shortcut is not None:
            shortcut.cut("client left" if self.left else "cut")
        self.end()

    async def _serve_one(self) -> bool:
        """Whether another request may follow."""
        record = Record(self.peer)
        try:
            head = await self._read_head(record)
        except FailureError as failure:
            self.shared.ledger.begin(record)
            try:
                await self._refuse(record, failure, None)
            finally:
                self.shared.ledger.close(record)
            return False
        if head is None:
            return False
        record.method = head.method
        self.idle = False
        if head.method == "CONNECT":
            record.kind = TUNNEL
        self.shared.ledger.begin(record)
        try:
            if record.kind is TUNNEL:
                await self._serve_tunnel(head, record)
                return False
            return await serve_exchange(self, head, record)
        except RefusalError as refusal:
            return await self._refuse(record, failure_of_refusal(refusal), head)
        except FailureError as failure:
            return await self._refuse(record, failure, head)
        except asyncio.CancelledError:
            record.note = "client left" if self.left else "cut"
            raise
        except (OSError, ExpiredError) as error:
            record.note = record.note or f"client lost: {error}"
            raise
        finally:
            if not self._handed_over:
                self.shared.ledger.close(record)

    async def _read_head(self, record: Record) -> RequestHead | None:
        """The next request's head, None if no request follows; raises FailureError."""
        reader = request_reader(self.shared.head_limits)
        try:
            head = await self._next_head(reader, record)
        except RefusalError as refusal:
            raise failure_of_refusal(refusal) from refusal
        except ExpiredError as expired:
            if self.idle:
                return None
            reason = "the head of the request was not complete in time"
            raise FailureError(408, ProxyError.HTTP_REQUEST_ERROR, reason, REFUSED) from expired
        if head is not None:
            self.buffer = reader.tail
        return head

    async def _next_head(
        self, reader: HeadReader[RequestHead], record: Record
    ) -> RequestHead | None:
        whole, self.buffer, head = self.buffer, b"", None
        if whole:
            if self.watchdog.phase is not Phase.HEAD:
                self.watchdog.enter(Phase.HEAD)
            head = self._repeated.get(whole) or reader.feed(whole)
        self.idle = self.watchdog.phase is Phase.KEEPALIVE
        if self.idle and self.shared.draining:
            return None
        while head is None:
            data = await self.stream.read()
            if not data:
                return None
            if self.idle:
                self.idle = False
                self.watchdog.enter(Phase.HEAD)
                record.restart()
            # Only what is a head from its first byte on: an equal slice is no equal head.
            whole = b"" if reader.started else data
            head = self._repeated.get(whole) or reader.feed(data)
        self._whole = b"" if reader.tail else whole
        if whole not in self._repeated:
            keep = self._whole and len(whole) <= REPEATED_MAX_BYTES
            self._repeated = {whole: head} if keep else {}
        return head

    async def _serve_tunnel(self, head: RequestHead, record: Record) -> None:
        request_framing(head)
        target = record.target = parse_authority(head.target)
        required = head.version == HTTP_1_1
        if not check_host_fields(target, head.values("host"), required=required):
            record.note = "the Host field names another host; it was not looked at"
        self.watchdog.enter(Phase.CONNECT)
        self.stream.watch()
        if self._whole:
            self.shared.heads.note(self._whole, head, KnownTunnel(target=target, note=record.note))
        decision = await self.shared.uplink.decide(target, record)
        upstream = await self.shared.uplink.connect(target, decision, record)
        try:
            record.status, record.answered = 200, True
            await self.stream.write(TUNNEL_ESTABLISHED)
        except BaseException:
            self.shared.poller.discard(upstream)
            raise
        self.hand_over(upstream, record)

    def hand_over(
        self,
        upstream: socket.SocketType,
        record: Record,
        early_down: bytes = b"",
        *,
        dial: Dial | None = None,
        known: KnownTunnel | None = None,
    ) -> None:
        """The connection is a tunnel from now on; the relay owns both sockets.

        `dial`: which has led to the upstream, if that was just now. `known` learns how it went.
        """
        shared = self.shared
        self._handed_over = True
        early, self.buffer = self.buffer, b""

        relay = shared.carrier.carry(
            self.stream.detach(),
            upstream,
            Tunnel(record, known, shared).ended,
            early_up=early,
            early_down=early_down,
            client_read_out=self.stream.is_read_out,
            upstream_read_out=dial is not None and dial.read_out,
            ack_held=dial is not None and dial.hold_ack,
        )
        shared.tunnels.add(record, relay)

    async def _refuse(
        self, record: Record, failure: FailureError, head: RequestHead | None
    ) -> bool:
        """Answers a request that comes to nothing; whether another one may follow."""
        record.note_failure(failure)
        if record.answered:
            self.stream.close(reset=True)
            return False
        self.stream.recover()
        keep = head is not None and self._may_go_on(head, failure)
        head_only = head is not None and head.method == "HEAD"
        await self.stream.write(render_failure(failure, close=not keep, head_only=head_only))
        self.lingers = not keep
        return keep

    def _may_go_on(self, head: RequestHead, failure: FailureError) -> bool:
        """Whether the next request's begin is beyond doubt, after an answer of our own."""
        return (
            failure.status in _SOUND_REQUEST
            and head.method != "CONNECT"
            and not self.shared.draining
            and request_framing(head) == NO_BODY
            and keeps_alive(head)
        )

    async def _linger(self) -> None:
        """Waits for the client to close, so that what it still sends does not reset our answer."""
        self.drop_upstream()
        self.watchdog.enter(Phase.CLOSING)
        with contextlib.suppress(OSError, ExpiredError):
            self.stream.sock.shutdown(socket.SHUT_WR)
            left = LINGER_BYTES
            while left > 0 and (data := await self.stream.read()):
                left -= len(data)

    def drop_upstream(self, *, reset: bool = False) -> None:
        """Ends the connection to the server, if there is one."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close(reset=reset)

    def leave(self) -> None:
        """The client has gone: what is being done for it ends."""
        self.left = True
        self.cut()

    def _take_first(self) -> None:
        """The first bytes are there, or the connection has ended without any."""
        try:
            data = self.stream.read_now()
        except OSError:
            data = b""
        if data is None:
            self.stream.watch()
        elif not data:
            self.end()
        elif (known := self.shared.heads.get(data)) is None or not self._take_shortcut(known):
            self.buffer = data
            self.start(self.serve())

    def _take_shortcut(self, known: KnownTunnel) -> bool:
        decision = self.shared.uplink.allowed_now(known.target)
        if decision is None:
            return False
        self.stream.on_unasked = self._take_unasked
        self.shortcut = Shortcut(self, known, decision)
        self.shortcut.start()
        return True

    def _take_unasked(self) -> None:
        """Something came while a request is being served (rule 2)."""
        try:
            data = self.stream.read_now()
        except OSError:
            data = b""
        if data:
            self.buffer += data
            if len(self.buffer) < READ_BYTES:
                self.stream.watch()
        elif data is not None and not (self.buffer and self.watchdog.phase is Phase.CONNECT):
            self.leave()

    def _expire(self, phase: Phase) -> None:
        error = ExpiredError(f"timed out, {phase.name.lower()}")
        if self.task is None and self.shortcut is None:
            self.stream.fail(error)
            self.start(self.serve())  # there is something left to say
            return
        if phase is Phase.CONNECT:
            self.cut()
            return
        if phase is not Phase.ANSWER:
            self.stream.fail(error)
        if self.upstream is not None:
            self.upstream.stream.fail(error)

    def end(self) -> None:
        """Lets go of everything that is not handed over."""
        self.watchdog.close()
        self.shared.clients.discard(self)
        self.drop_upstream(reset=self.left)
        if not self._handed_over:
            self.stream.close(reset=self.left)
            self.shared.release()
