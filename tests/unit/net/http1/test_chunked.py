from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.net.http1.chunked import (
    EXTENSION_MAX_BYTES,
    FORBIDDEN_TRAILERS,
    ChunkedReader,
    render_chunk,
    render_last_chunk,
    request_chunks,
    response_chunks,
)
from egress_router.net.http1.errors import UpstreamProtocolError

END = b"0\r\n\r\n"

REFUSED = [  # faults.md row, status towards a client, bytes of a body
    *(
        (37, 400, size + b"\r\nhello\r\n" + END)
        for size in (
            *(b"0x5", b"+5", b"-5", b"5_0", b"", b" 5", b"5 ", b"\t5", b"5\t", b"5h", b"g", b"5.0"),
            *(b"5 0", b"\x005", b"5\x00", b"5\x0b", b"\x855", b"5\xa0", b"5,", b"\xb2", b"0" * 17),
            *(
                b"5;",
                b"5;;a",
                b"5; ",
                b"5 ;a",
                b"5\t;a",
                b"5; a",
                b"5;a =b",
                b"5;a= b",
                b"5;=a",
                b"5;a=",
                b"5;a b",
                b"5;a ",
                b"5;a=b c",
                b'5;a="',
            ),
            *(b'5;a="b"c', b'5;a="\\"', b"5;a\x00", b"5;\xe9", b"5;a\x7f=b", b"5;a=b;", b"5;a,b"),
            *(b"5;" + b"a" * EXTENSION_MAX_BYTES, b"5;" + b"a" * 20_000, b"5;a=b\rc"),
        )
    ),
    (37, 400, b"5\nhello\r\n" + END),
    (37, 400, b"5;a\nb\r\nhello\r\n" + END),
    (37, 400, b"5;a=b\nhello\r\n" + END),
    (37, 400, b'5;a="\n"\r\nhello\r\n' + END),
    (37, 400, b"5\rXhello\r\n" + END),
    (37, 400, b"5\r\nhello\rX" + END),
    (37, 400, b"5\r\nhello\n" + END),
    (37, 400, b"5\r\nhelloXX" + END),
    (37, 400, b"5\r\nhello!\r\n" + END),
    (37, 400, b"5\r\nhell\r\n" + END),
    (37, 400, b"5\r\nhello\n\r" + END),
    (37, 400, b"5\r\nhello" + END),
    (37, 400, b"5\r\nhello\r\n0\n\n"),
    (37, 400, b"5\r\nhello\r\n0\r\n\n"),
    (37, 400, b"5\r\nhello\r\n0\n\r\n"),
    (37, 400, b"\r\n5\r\nhello\r\n" + END),
    (37, 400, b"ffffffffffffffff0\r\n"),
    (37, 400, b"10000000000000000\r\n"),
    (38, 400, b"0\r\n A: b\r\n\r\n"),
    (38, 400, b"0\r\nA : b\r\n\r\n"),
    (38, 400, b"0\r\nA\r\n\r\n"),
    (38, 400, b"0\r\nA: b\n\r\n"),
    (38, 400, b"0\r\nA: \x00\r\n\r\n"),
    (38, 400, b"0\r\nA: b\r\n c\r\n\r\n"),
    (38, 400, b"0\r\n: b\r\n\r\n"),
    (38, 431, b"0\r\n" + b"A: b\r\n" * 33 + b"\r\n"),
    (38, 431, b"0\r\n" + b"A: b\r\n" * 10_000 + b"\r\n"),
    (38, 431, b"0\r\nA: " + b"b" * 5000 + b"\r\n\r\n"),
    (38, 431, b"0\r\n" + (b"A: " + b"b" * 2000 + b"\r\n") * 9 + b"\r\n"),
]

ACCEPTED = [  # row, body, payload, trailers
    (37, END, b"", ()),
    (37, b"5\r\nhello\r\n" + END, b"hello", ()),
    (37, b"005\r\nhello\r\n000\r\n\r\n", b"hello", ()),
    (37, b"0000000000000005\r\nhello\r\n" + END, b"hello", ()),
    (37, b"A\r\n0123456789\r\na\r\nabcdefghij\r\n" + END, b"0123456789abcdefghij", ()),
    (37, b"2\r\n\r\n\r\n4\r\n0\r\n\r\r\n" + END, b"\r\n0\r\n\r", ()),
    (37, b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello", ()),
    (37, b'5;a="b;\\"\xe9 c\\\\";d=e;f\r\nhello\r\n' + END, b"hello", ()),
    (37, b"5;" + b"a" * (EXTENSION_MAX_BYTES - 1) + b"\r\nhello\r\n" + END, b"hello", ()),
    (38, b"0\r\nDigest: a\r\nX-b:  c \r\n\r\n", b"", (("Digest", "a"), ("X-b", "c"))),
    (
        38,
        (
            b"0\r\nHost: a\r\nContent-Length: 5\r\nTRANSFER-encoding: chunked\r\nA: b\r\n"
            b"X-Forwarded-For: c\r\nAuthorization: d\r\nTrailer: e\r\n\r\n"
        ),
        b"",
        (("A", "b"),),
    ),
    (38, b"0\r\n" + b"A:b\r\n" * 32 + b"\r\n", b"", (("A", "b"),) * 32),
]


def named(cases: list[tuple]) -> list:
    """The cases as parameters whose ids begin with the row of the fault."""
    return [
        pytest.param(*case[1:], id=f"row{case[0]}-{number}") for number, case in enumerate(cases)
    ]


def read(reader: ChunkedReader, slices: list[bytes]) -> tuple[bytes, int]:
    """The payload and how many bytes were used of all slices."""
    payload, used = b"", 0
    for piece in slices:
        parts, count = reader.feed(piece)
        payload += b"".join(parts)
        used += count
        assert count == len(piece) or reader.done
    return payload, used


def bytes_of(data: bytes) -> list[bytes]:
    """Each byte for itself."""
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(("status", "data"), named(REFUSED))
def test_bad_chunks_are_refused_the_same_however_they_come(status: int, data: bytes) -> None:
    """A bad body is refused whole, by bytes and with a tail; in an answer it is a 502."""
    for slices in ([data], bytes_of(data), [data + b"GET / HTTP/1.1\r\n\r\n"]):
        with pytest.raises(RefusalError) as caught:
            read(request_chunks(), slices)
        assert caught.value.status == status
        with pytest.raises(UpstreamProtocolError):
            read(response_chunks(), slices)


@pytest.mark.parametrize(("data", "payload", "trailers"), named(ACCEPTED))
def test_good_chunks_are_read_as_they_stand(data: bytes, payload: bytes, trailers: tuple) -> None:
    """A good body gives its payload and trailers whole, by bytes, and leaves a tail alone."""
    for slices in ([data], bytes_of(data), [data + END], [data[:-1], data[-1:] + b"tail"]):
        reader = request_chunks()
        assert read(reader, slices) == (payload, len(data))
        assert reader.done
        assert reader.trailers == trailers


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_no_forbidden_trailer_passes(name: str) -> None:
    """A trailer that frames, routes or authenticates is dropped in any spelling (row 38)."""
    reader = response_chunks()
    reader.feed(b"0\r\n%b: x\r\nOk: y\r\n\r\n" % name.title().encode())
    assert reader.trailers == (("Ok", "y"),)


def test_a_torn_body_is_not_done() -> None:
    """A body cut anywhere before its end is never taken for complete (row 47)."""
    data = b"5;a\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for cut in range(len(data)):
        reader = response_chunks()
        read(reader, [data[:cut]])
        assert not reader.done


def test_a_bad_size_is_refused_at_its_first_bad_byte() -> None:
    """What cannot become a size line is not waited for."""
    for data in (b"x", b"5x", b" ", b"+", b"1" * 17, b"5;a\x00", b"5;" + b"a" * 5000):
        with pytest.raises(RefusalError):
            request_chunks().feed(data)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "line", [b";a" * 2040, b";a=" + b"a" * 4000, b';a="' + b'\\"' * 2000, b';a="' * 1000]
)
def test_a_long_extension_costs_no_more_than_its_length(line: bytes) -> None:
    """Extensions made to confuse a pattern are refused at once."""
    with pytest.raises(RefusalError):
        request_chunks().feed(b"5" + line + b" \r\n")


def test_payload_is_not_copied() -> None:
    """The payload comes as views of the bytes that were fed."""
    data = b"5\r\nhello\r\n3\r\nabc"
    payload, used = request_chunks().feed(data)
    assert [part.obj is data for part in payload] == [True, True]
    assert used == len(data)


def test_an_empty_chunk_is_never_written() -> None:
    """No bytes render to nothing, since a chunk of size 0 would end the body."""
    assert render_chunk([]) == b""
    assert render_chunk([b"", memoryview(b"")]) == b""
    assert render_chunk([b"hello ", memoryview(b"world")]) == b"b\r\nhello world\r\n"


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
EXTENSIONS = st.sampled_from([b"", b";a", b';a="\\"b"', b";a=b;c=d"])
TRAILERS = st.lists(st.tuples(st.sampled_from(["A", "b-C", "Digest"]), st.just("v w")), max_size=3)


@given(CHUNKS, EXTENSIONS, TRAILERS, st.data())
def test_what_goes_in_comes_out(
    chunks: list[bytes], extension: bytes, trailers: list, data: st.DataObject
) -> None:
    """Any body, cut anyhow and written anew, reads the same again."""
    raw = b"".join(b"%x%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    raw += render_last_chunk(tuple(trailers))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    slices = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    first, anew = request_chunks(), b""
    for piece in slices:
        anew += render_chunk(first.feed(piece)[0])
    assert first.done
    anew += render_last_chunk(first.trailers)
    second = response_chunks()
    assert read(second, [anew]) == (b"".join(chunks), len(anew))
    assert second.trailers == first.trailers == tuple(trailers)


JUNK = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b"0", b"1", b"a", b";", b"=", b'"', b" ", b"x", b"A: b", b"\\"]
    ),
    max_size=16,
).map(b"".join)


@given(JUNK, st.data())
def test_splits_do_not_matter(raw: bytes, data: st.DataObject) -> None:
    """Any bytes give one outcome however they are cut."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    slices = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert outcome(slices) == outcome([raw]) == outcome(bytes_of(raw))


def outcome(slices: list[bytes]) -> object:
    """What a reader came to, or the status of its refusal."""
    reader = request_chunks()
    try:
        payload, used = read(reader, slices)
    except RefusalError as refusal:
        return refusal.status
    return payload, used, reader.done, reader.trailers
