"""Our readers beside h11's and aiohttp's: what one of them refuses for its framing, we refuse."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.net.http1.chunked import request_chunks, response_chunks
from egress_router.net.http1.framing import (
    BodyKind,
    Framing,
    request_framing,
    response_framing,
)
from egress_router.net.http1.head_reader import request_reader, response_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.net.http1.chunked import ChunkedReader
    from egress_router.net.http1.head import RequestHead, ResponseHead

FIELDS = [
    *(
        b"A: b",
        b"A:b",
        b"A: \tb ",
        b"A : b",
        b" A: b",
        b"A",
        b":",
        b"A:",
        b"A: b\rc",
        b"A: b\nC: d",
    ),
    *(b"A: \x00", b"A: \xff", b"A\xff: b", b"A: \x0b", b"A: b\r\n c", b"A(: b", b""),
    *(b"Content-Length: 5", b"content-length:5", b"Content-Length: 05", b"Content-Length: +5"),
    *(b"Content-Length: 5, 5", b"Content-Length: 6", b"Content-Length: ", b"Content-Length: 5\xa0"),
    *(b"Content-Length\t: 5", b"Content-Length: 18446744073709551621", b"Content-Length: 0"),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding:\tCHUNKED ", b"Transfer-Encoding: gzip"),
    *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: "),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked;a", b"X: \x85"),
    *(b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: identity", b"Connection: close"),
]
BODIES = [
    *(
        b"hello",
        b"hell",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
    ),
    *(b"5;a\r\nhello\r\n", b'5;a="b\\""\r\nhello\r\n', b"5 \r\nhello\r\n", b"5 ;a\r\nhello\r\n"),
    *(
        b"5; a\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloX\r",
    ),
    *(
        b"5;a\nb\r\nhello\r\n",
        b"5\rXhello\r\n",
        b"00005\r\nhello\r\n",
        b"0\n\n",
        b"A\r\n0123456789\r\n",
    ),
    *(b"5;a=\r\nhello\r\n", b"0\r\n\n", b"0\r\nHost: x\r\n\r\n", b"0;a=b\r\n\r\n", b"\r\n"),
]
LINES = st.lists(st.sampled_from(FIELDS), max_size=4)
BODY = st.lists(st.sampled_from(BODIES), max_size=4).map(b"".join)
MUTATION = st.tuples(
    st.integers(0, 400),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b":", b"\xa0", b"0", b","]),
    st.integers(0, 2),
)


def joined(begin: bytes, lines: list[bytes], body: bytes) -> bytes:
    """A message of these parts, right or wrong."""
    return b"".join([begin, *(line + b"\r\n" for line in lines), b"\r\n", body])


def mutated(data: bytes, mutations: list[tuple[int, bytes, int]], keep: int) -> bytes:
    """The data with some bytes replaced, inserted or taken out behind the first `keep`."""
    for at, new, taken in mutations:
        place = keep + at % max(1, len(data) - keep)
        data = data[:place] + new + data[place + taken :]
    return data


def body_of(framing: Framing, reader: ChunkedReader, tail: bytes) -> tuple[bytes, int] | None:
    """The payload that follows a head and its length on the wire; None where it is not complete."""
    if framing.kind is BodyKind.CHUNKED:
        payload, used = reader.feed(tail)
        return (b"".join(payload), used) if reader.done else None
    if framing.kind is BodyKind.UNTIL_CLOSE:
        return tail, len(tail)
    whole = len(tail) >= framing.length
    return (tail[: framing.length], framing.length) if whole else None


def ours(data: bytes) -> tuple[RequestHead, bytes, bytes] | None:
    """The first request's head, payload and bytes; None where it is refused or not complete."""
    reader = request_reader()
    try:
        head = reader.feed(data)
        body = head and body_of(request_framing(head), request_chunks(), reader.tail)
    except RefusalError:
        return None
    if not head or not body:
        return None
    return head, body[0], data[: len(data) - len(reader.tail) + body[1]]


def our_answer(data: bytes) -> tuple[ResponseHead, bytes] | None:
    """What we take the answer to a GET for; None where we refuse it or it is not complete."""
    reader = response_reader()
    try:
        head = reader.feed(data)
        body = head and body_of(response_framing("GET", head), response_chunks(), reader.tail)
    except RefusalError:
        return None
    return (head, body[0]) if head and body else None


def read_by_h11(connection: h11.Connection, data: bytes) -> tuple[object, bytes]:
    """Head event and payload as h11 has them; raises its RemoteProtocolError."""
    connection.receive_data(data)
    head, payload = connection.next_event(), b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            payload += event.data
        elif event is h11.NEED_DATA:
            connection.receive_data(b"")
        else:
            return head, payload


def lowered(head: RequestHead | ResponseHead) -> list[tuple[bytes, bytes]]:
    """Fields in h11's form."""
    return [
        (name.encode(), value[1].encode("latin-1"))
        for name, value in zip(head.names, head.headers, strict=True)
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(LINES, BODY, st.lists(MUTATION, max_size=2))
def test_h11_reads_the_requests_we_take(lines: list[bytes], body: bytes, mutations: list) -> None:
    """A request we take, h11 takes, with the same line, fields and payload."""
    data = b"".join(
        [b"POST /a HTTP/1.1\r\nHost: h\r\n", *(x + b"\r\n" for x in lines), b"\r\n", body]
    )
    mine = ours(data := mutated(data, mutations, 0))
    assume(mine is not None)
    assert mine is not None
    head, payload, whole = mine
    assume(len(head.values("host")) == 1)  # policy's business here, h11's own there
    # h11 knows no empty line before a request (RFC 9112 §2.2), so it does not get it.
    event, theirs = read_by_h11(h11.Connection(h11.SERVER), whole.removeprefix(b"\r\n"))
    assert isinstance(event, h11.Request)
    assert (event.method.decode(), event.target.decode()) == (head.method, head.target)
    assert list(event.headers) == [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in lowered(head)
    ]
    assert theirs == payload


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(LINES, BODY, st.lists(MUTATION, max_size=2))
def test_h11_reads_the_answers_we_take(lines: list[bytes], body: bytes, mutations: list) -> None:
    """An answer we take, h11 takes, with the same status, fields and payload."""
    data = b"".join(
        [b"HTTP/1.1 200 OK\r\nDate: d\r\n", *(x + b"\r\n" for x in lines), b"\r\n", body]
    )
    mine = our_answer(data := mutated(data, mutations, 0))
    assume(mine is not None)
    assert mine is not None
    head, payload = mine
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    event, theirs = read_by_h11(connection, data)
    assert isinstance(event, h11.Response)
    assert event.status_code == head.status
    assert theirs == payload


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that aiohttp's parser asks for; it is never run."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(lines=LINES, body=BODY, mutations=st.lists(MUTATION, max_size=2))
def test_aiohttp_reads_the_requests_we_take(
    loop: asyncio.AbstractEventLoop, lines: list[bytes], body: bytes, mutations: list
) -> None:
    """A request we take, aiohttp takes, with the same payload."""
    line = b"POST /a HTTP/1.1\r\nHost: h\r\n"
    data = joined(line, lines, body)
    mine = ours(data := mutated(data, mutations, len(line)))
    assume(mine is not None)
    assert mine is not None
    head, payload, whole = mine
    assume(len(head.values("host")) == 1)
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_field_size=8190)
    try:
        messages, _, _ = parser.feed_data(whole)
    except HttpProcessingError as fault:
        pytest.fail(f"aiohttp refuses what we take: {fault}")
    message, stream = messages[0]
    assert message.path == head.target
    assert stream.read_nowait() == payload
