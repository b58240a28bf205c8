from __future__ import annotations

import pytest

from egress_router.errors import RefusalError
from egress_router.net.http1.head import REQUEST_SECTION
from egress_router.net.http1.head_reader import request_reader, response_reader
from egress_router.net.http1.lines import HeadLimits, LineScan

EARLY = [  # what has come, with no line end behind it, and the status that it already deserves
    (b"\x16\x03\x01", 400),  # TLS
    (b"GET / HTTP/1.1\r\nA: b\x00", 400),
    (b"GET / HTTP/1.1\r\n b", None),  # nothing but the end of its line shows a bad name
    (b"GET / HTTP/1.1\r\n b\r\n", 400),
    (b"GET / HTTP/2.0\r\n", 505),
    (b"PRI * HTTP/2.0\r\n", 505),
    (b"GET / HTTP/1.1\r\nA: b\n", 400),
    (b"GET / HTTP/1.1\rx", 400),
    (b"GET / HTTP/1.1\r", None),
    (b"G" * 8194, 414),
    (b"G" * 8193, None),
    (b"GET / HTTP/1.1\r\n" + b"A" * 8194, 431),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101, 431),
    (b"GET / HTTP/1.1\r\n" + (b"A: " + b"b" * 1019 + b"\r\n") * 64, 431),
    (b"\r\n\r\n", 400),
    (b"\r\n\r", None),
]


@pytest.mark.parametrize(("data", "status"), EARLY, ids=range(len(EARLY)))
def test_a_fault_is_refused_before_the_head_is_complete(data: bytes, status: int | None) -> None:
    """What cannot become a head is refused at once; what still may is waited for."""
    for slices in ([data], [data[at : at + 1] for at in range(len(data))]):
        reader = request_reader()
        if status is None:
            assert [reader.feed(piece) for piece in slices] == [None] * len(slices)
            assert reader.started
            continue
        with pytest.raises(RefusalError) as caught:
            [reader.feed(piece) for piece in slices]
        assert caught.value.status == status


class CountingBuffer(bytearray):
    """A buffer that adds up how many bytes it was asked to look through for a line end."""

    searched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:
        """As bytearray does it, counting."""
        stop = len(self) if end is None else min(end, len(self))
        CountingBuffer.searched += max(0, stop - start)
        return super().find(sub, start, stop)


def test_a_drip_is_searched_once() -> None:
    """A head of nearly 64 KiB that comes byte by byte has each byte searched once, not again."""
    data = b"GET x HTTP/1.1\r\n" + (b"A: " + b"b" * 8000 + b"\r\n") * 8 + b"\r\n"
    scan = LineScan(REQUEST_SECTION, HeadLimits())
    buffer = CountingBuffer()
    CountingBuffer.searched = 0
    for byte in data:
        buffer.append(byte)
        end = scan.advance(buffer)
    assert end == len(data)
    assert CountingBuffer.searched <= 2 * len(data)


def test_an_idle_connection_has_not_started() -> None:
    """Before any byte a reader has not started, so that silence is closed and not answered."""
    reader = request_reader()
    assert reader.feed(b"") is None
    assert not reader.started
    reader.feed(b"G")
    assert reader.started


def test_pipelined_requests_come_one_by_one() -> None:
    """The tail of one reader, given to the next, yields every request in order."""
    tail = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50))
    targets = []
    while tail:
        reader = request_reader()
        head = reader.feed(tail)
        assert head is not None
        targets.append(head.target)
        tail = reader.tail
    assert targets == [f"/{number}" for number in range(50)]


def test_interim_and_final_answers_follow_each_other() -> None:
    """A 100 and the final answer in one slice are two heads."""
    first = response_reader()
    interim = first.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody")
    second = response_reader()
    final = second.feed(first.tail)
    assert interim is not None
    assert final is not None
    assert (interim.status, final.status, second.tail) == (100, 200, b"body")
