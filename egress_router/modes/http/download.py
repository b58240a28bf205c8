"""The answer's body on its way to the client: as many bytes as promised, or a visible break.

What a server sends beyond its body is never passed on, and its connection is not used again. A body
that ends early ends the client's connection with a reset, so that nobody takes it for whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.modes.http.failure import upstream_failure
from egress_router.net.http1.answers import ProxyError
from egress_router.net.http1.chunked import render_chunk, render_last_chunk, response_chunks
from egress_router.net.http1.framing import BodyKind, Framing
from egress_router.net.http1.head import HTTP_1_1

if TYPE_CHECKING:
    from egress_router.modes.http.ledger import Record
    from egress_router.modes.http.upload import Side
    from egress_router.net.stream import Stream


async def pass_body(  # noqa: PLR0913, PLR0917 - two ends, what came with the head, how it ends
    source: Stream,
    client: Side,
    head: bytes,
    early: bytes,
    framing: Framing,
    version: tuple[int, int],
    record: Record,
) -> bool:
    """Sends the head and the body; whether the server has kept to it, so that more may follow.

    `early` came along with the head. Raises FailureError where the body breaks off.
    """
    kind = framing.kind
    if kind is BodyKind.CHUNKED:
        return await _pass_chunks(source, client, head, early, version, record)
    left = framing.length if kind is BodyKind.LENGTH else 0
    if kind is not BodyKind.UNTIL_CLOSE:
        piece = early[:left]
        record.answered = True
        await client.stream.write(head + piece if piece else head)
        record.bytes_down += len(piece)
        await _pass_counted(source, client, left - len(piece), record)
        return len(early) <= left
    record.answered = True
    await client.stream.write(head + early)
    record.bytes_down += len(early)
    while data := await _read(source, client):
        await client.stream.write(data)
        client.watchdog.touch()
        record.bytes_down += len(data)
    return False


async def _pass_counted(source: Stream, client: Side, left: int, record: Record) -> None:
    while left:
        data = await _read(source, client)
        if not data:
            reason = f"the server closed its connection {left} bytes before the end of its answer"
            raise upstream_failure(502, ProxyError.HTTP_RESPONSE_INCOMPLETE, reason)
        if len(data) > left:
            data = data[:left]
        left -= len(data)
        await client.stream.write(data)
        client.watchdog.touch()
        record.bytes_down += len(data)


async def _pass_chunks(  # noqa: PLR0913, PLR0917 - see pass_body
    source: Stream,
    client: Side,
    head: bytes,
    early: bytes,
    version: tuple[int, int],
    record: Record,
) -> bool:
    chunks = response_chunks()
    anew = version == HTTP_1_1
    data, out = early, head
    while True:
        payload, used = chunks.feed(data)
        out += render_chunk(payload) if anew else b"".join(payload)
        record.bytes_down += sum(map(len, payload))
        record.answered = True
        if chunks.done:
            out += render_last_chunk(chunks.trailers) if anew else b""
            await client.stream.write(out)
            return used == len(data)
        if out:
            await client.stream.write(out)
            client.watchdog.touch()
        out = b""
        data = await _read(source, client)
        if not data:
            reason = "the server closed its connection within a chunked answer"
            raise upstream_failure(502, ProxyError.HTTP_RESPONSE_INCOMPLETE, reason)


async def _read(source: Stream, client: Side) -> bytes:
    try:
        data = await source.read()
    except OSError as error:
        reason = f"the server broke off its answer: {error.strerror}"
        raise upstream_failure(502, ProxyError.HTTP_RESPONSE_INCOMPLETE, reason) from error
    client.watchdog.touch()
    return data
