"""One plain request and its answer, passed on by one task (RFC 9110, RFC 9112).

1. Everything about the request is judged before anything is looked up, and everything about its
   target before anything is dialled.
2. A connection that was used before may die as the next request reaches it: a request that is
   idempotent and without a body is then tried once more, on a new one (RFC 9110 §9.2.2).
3. An answer that has begun and cannot be finished ends the client's connection with a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from egress_router.errors import RefusalError
from egress_router.modes.http.answers import PSEUDONYM, render_options
from egress_router.modes.http.download import pass_body
from egress_router.modes.http.failure import (
    ExpiredError,
    FailureError,
    failure_of_protocol,
    failure_of_refusal,
    upstream_failure,
)
from egress_router.modes.http.ledger import REFUSED, TUNNEL
from egress_router.modes.http.prepared import (
    PreparedRequest,
    prepare_answer,
    prepare_request,
)
from egress_router.modes.http.upload import Upload
from egress_router.modes.http.upstream import DiedError, Upstream
from egress_router.modes.http.watchdog import Phase
from egress_router.net.http1.answers import ProxyError
from egress_router.net.http1.connection import (
    SWITCHING,
    asks_websocket,
)
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.forward import (
    forward_interim,
    forward_switch,
)
from egress_router.net.http1.framing import NO_BODY

if TYPE_CHECKING:
    from egress_router.modes.http.client import Client
    from egress_router.modes.http.ledger import Record
    from egress_router.net.http1.head import RequestHead, ResponseHead
    from egress_router.net.stream import Stream
    from egress_router.policy.rules import Decision
    from egress_router.policy.target import Target

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


async def serve_exchange(client: Client, head: RequestHead, record: Record) -> bool:
    """Serves one plain request; whether the client's connection may carry another.

    Raises RefusalError for a request that is none, FailureError for one that comes to nothing.
    """
    request = client.prepared
    if request is None or request.head is not head:
        client.prepared = request = prepare_request(head)
    target = record.target = request.target
    if request.host_differs:
        record.note = "the Host field names another host; the target was sent instead"
    if not request.rendered:
        record.reason, record.status, record.answered = "Max-Forwards is 0", 200, True
        await client.stream.write(render_options(close=True))
        return False
    client.watchdog.enter(Phase.CONNECT)
    client.stream.watch()
    exchange = _Exchange(client, request, record)
    decision = client.shared.uplink.remembered(target)
    if decision is None or not decision.allowed:
        decision = await client.shared.uplink.decide(target, record)
    else:
        record.rule, record.reason = decision.rule, decision.reason
    try:
        return await exchange.run(decision)
    except BaseException:
        client.drop_upstream(reset=True)
        raise


class _Exchange:
    """The state of one exchange."""

    __slots__ = ("_client", "_head", "_record", "_request", "_upload", "_uploading")

    def __init__(self, client: Client, request: PreparedRequest, record: Record) -> None:
        self._client = client
        self._request = request
        self._head = request.head
        self._record = record
        self._upload = Upload(client, request.framing, record)
        self._uploading: asyncio.Task[None] | None = None

    async def run(self, decision: Decision) -> bool:
        """Sends the request, passes the answer on."""
        request, target = self._request.rendered, self._request.target
        upstream = await self._reach(target, decision)
        early = self._upload.take_buffered()
        try:
            try:
                answer, tail = await self._ask(upstream, request + early)
            except DiedError as died:
                upstream = await self._reach_again(upstream, target, decision, died)
                answer, tail = await self._ask(upstream, request)
            if answer.status == SWITCHING:
                await self._switch(upstream, answer, tail)
                return False
            return await self._answer(upstream, answer, tail)
        except DiedError as died:
            reason = "the server closed its connection without an answer"
            raise upstream_failure(502, ProxyError.CONNECTION_TERMINATED, reason) from died
        except UpstreamProtocolError as broken:
            raise failure_of_protocol(broken) from broken
        except ExpiredError as expired:
            raise self._too_late() from expired
        finally:
            if self._uploading is not None:
                await self._end_upload(self._uploading)

    async def _reach(self, target: Target, decision: Decision) -> Upstream:
        client = self._client
        upstream = client.upstream
        if upstream is not None:
            if upstream.serves(target, decision):
                self._record.address = upstream.address
                return upstream
            client.drop_upstream()
        sock = await client.shared.uplink.connect(target, decision, self._record)
        address = self._record.address
        assert address is not None  # noqa: S101 - connect has noted it
        client.upstream = upstream = Upstream(sock, target, address, client.shared.poller)
        return upstream

    async def _reach_again(
        self, upstream: Upstream, target: Target, decision: Decision, died: DiedError
    ) -> Upstream:
        """Rule 2, or the error as it was."""
        bodyless = self._request.framing == NO_BODY
        if not (upstream.used and bodyless and self._head.method in _IDEMPOTENT):
            raise died
        self._client.drop_upstream()
        self._client.watchdog.enter(Phase.CONNECT)
        return await self._reach(target, decision)

    async def _ask(self, upstream: Upstream, request: bytes) -> tuple[ResponseHead, bytes]:
        """The final answer's head, or that of a switch, and what came behind it."""
        client, upload = self._client, self._upload
        upstream.stream.on_unasked = None
        try:
            await upstream.stream.write(request)
        except OSError as error:
            if upload.done:
                raise DiedError from error
            upload.refused = True
        if upload.done or upload.refused:
            client.watchdog.enter(Phase.ANSWER)
            client.stream.watch()  # a client that left while we dialled is told apart only now
        elif self._uploading is None:
            client.watchdog.enter(Phase.ANSWER if "expect" in self._head else Phase.BODY)
            self._uploading = client.shared.loop.create_task(self._run_upload(upstream.stream))
        return await upstream.read_head(client.shared.head_limits, self._pass_interim)

    async def _pass_interim(self, head: ResponseHead) -> None:
        out = forward_interim(head, client_version=self._head.version, via=PSEUDONYM)
        if out:
            await self._client.stream.write(out)

    async def _answer(self, upstream: Upstream, answer: ResponseHead, tail: bytes) -> bool:
        client, upload = self._client, self._upload
        wanted = upload.done and not client.shared.draining and self._request.keeps_alive
        known = upstream.prepared
        if (
            known is None
            or known.head is not answer
            or known.request is not self._request
            or known.wanted is not wanted
        ):
            known = prepare_answer(answer, self._request, wanted=wanted)
            upstream.prepared = known
        client.watchdog.enter(Phase.BODY)
        self._record.status = answer.status
        whole = await pass_body(
            upstream.stream,
            client,
            known.rendered,
            tail,
            known.framing,
            self._head.version,
            self._record,
        )
        if whole and upload.done and known.server_stays:
            upstream.rest()
        else:
            client.drop_upstream(reset=not upload.done)
        client.lingers = not known.client_stays
        return known.client_stays

    async def _switch(self, upstream: Upstream, answer: ResponseHead, tail: bytes) -> None:
        if not asks_websocket(self._head):
            raise UpstreamProtocolError("status 101 where nobody asked to switch")
        out = forward_switch(answer, via=PSEUDONYM)
        self._record.status, self._record.answered = SWITCHING, True
        await self._client.stream.write(out)
        self._client.upstream = None
        self._client.shared.ledger.become(self._record, TUNNEL)
        self._client.hand_over(upstream.stream.detach(), self._record, early_down=tail)

    async def _run_upload(self, sink: Stream) -> None:
        client = self._client
        try:
            await self._upload.run(sink)
        except RefusalError as refusal:
            # Told by the task that waits for the answer, for it alone speaks to the client.
            sink.fail(failure_of_refusal(refusal))
            return
        except OSError:
            client.leave()
            return
        client.stream.watch()  # as above, now that nobody reads
        if client.watchdog.phase is Phase.BODY and not self._record.answered:
            client.watchdog.enter(Phase.ANSWER)

    async def _end_upload(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExpiredError):
            await task

    def _too_late(self) -> FailureError:
        if not self._upload.done and self._upload.starved:
            reason = "the request's body did not go on in time"
            return FailureError(408, ProxyError.HTTP_REQUEST_ERROR, reason, REFUSED)
        reason = "the server did not answer in time"
        if self._record.answered:
            reason = "the body of the answer did not go on in time"
        return upstream_failure(504, ProxyError.HTTP_RESPONSE_TIMEOUT, reason)
