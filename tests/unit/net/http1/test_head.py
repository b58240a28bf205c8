from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.head import (
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_request_head,
    parse_response_head,
)
from egress_router.net.http1.head_reader import HeadReader, request_reader, response_reader
from egress_router.net.http1.lines import HeadLimits

LINE = b"GET http://a.test/ HTTP/1.1\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"

BAD_FIELD_LINES = [  # faults.md row, field lines with their ends
    (39, b"A: b\r\n c\r\n"),
    (39, b"A: b\r\n\tc\r\n"),
    (39, b" A: b\r\n"),
    (39, b"\tA: b\r\n"),
    (39, b"A : b\r\n"),
    (39, b"A\t: b\r\n"),
    (39, b"A\r\n"),
    (39, b"A b\r\n"),
    (39, b": b\r\n"),
    (39, b":\r\n"),
    (39, b"A b: c\r\n"),
    (39, b"A\x00: b\r\n"),
    (39, b"A\x80: b\r\n"),
    (39, b"\xc3\xa4: b\r\n"),
    (39, b"A\xa0: b\r\n"),
    (39, b"A(: b\r\n"),
    (39, b"A\x7f: b\r\n"),
    *((39, b"A: b%cc\r\n" % code) for code in (*range(9), 11, 12, *range(14, 32), 127)),
    (39, b"A: b\rc\r\n"),
    (39, b"A: b\r\r\n"),
    (39, b"\rA: b\r\n"),
    (39, b"A\r: b\r\n"),
    (39, b"A: b\n"),
    (39, b"A: b\nC: d\r\n"),
    (39, b"A: b\r\n\nC: d\r\n"),
    (39, b"\nA: b\r\n"),
    (39, b"A: b\n\r\n"),
]

REFUSED_REQUESTS = [  # faults.md row, status, bytes up to where they must have been refused
    *((row, 400, LINE + lines + b"\r\n") for row, lines in BAD_FIELD_LINES),
    (39, 400, b"GET http://a.test/ HTTP/1.1\nA: b\r\n\r\n"),
    (39, 400, b"GET http://a.test/ HTTP/1.1\n\n"),
    (39, 400, b"GET http://a.test/ HTTP/1.1\rA: b\r\n\r\n"),
    (39, 400, LINE + b"A: b\r\n\n"),
    (39, 400, b"\r\n\r\n" + LINE + b"\r\n"),
    (39, 400, b"\n" + LINE + b"\r\n"),
    (39, 400, b"\r" + LINE + b"\r\n"),
    (39, 400, b" " + LINE + b"\r\n"),
    (39, 400, b"GET  http://a.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/  HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/ HTTP/1.1 \r\n\r\n"),
    (39, 400, b"GET\thttp://a.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/\tHTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/ x HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/\xa0HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/\x0bx HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/\x00 HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://a.test/\x7f HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET http://\xc3\xa4.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET  HTTP/1.1\r\n\r\n"),
    (39, 400, b" http://a.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"G(T http://a.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"GET: http://a.test/ HTTP/1.1\r\n\r\n"),
    (39, 400, b"\xc3\xa4 http://a.test/ HTTP/1.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/\r\n\r\n"),
    (41, 400, b"GET\r\n\r\n"),
    (41, 400, b"GET http://a.test/ http/1.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/11.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/1.10\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/1.\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/+1.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/ 1.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/1,1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTP/1.\xb2\r\n\r\n"),
    (41, 400, b"GET http://a.test/ HTTPS/1.1\r\n\r\n"),
    (41, 400, b"GET http://a.test/ ICY/1.1\r\n\r\n"),
    (41, 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    (41, 505, b"GET http://a.test/ HTTP/0.9\r\n\r\n"),
    (41, 505, b"GET http://a.test/ HTTP/1.2\r\n\r\n"),
    (41, 505, b"GET http://a.test/ HTTP/2.0\r\n\r\n"),
    (41, 505, b"GET http://a.test/ HTTP/3.0\r\n\r\n"),
    (41, 505, b"PRI * HTTP/2.0\r\n\r\n"),
    (40, 414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n\r\n"),
    (40, 414, b"A" * 8195),
    (40, 431, LINE + b"A: " + b"a" * 8190 + b"\r\n\r\n"),
    (40, 431, LINE + b"A" * 8195),
    (40, 431, LINE + b"A: b\r\n" * 101 + b"\r\n"),
    (40, 431, LINE + (b"A: " + b"a" * 997 + b"\r\n") * 66 + b"\r\n"),
]

REFUSED_RESPONSES = [
    *((row, STATUS + lines + b"\r\n") for row, lines in BAD_FIELD_LINES),
    (47, b"HTTP/1.1 200 OK\nA: b\r\n\r\n"),
    (47, b"HTTP/1.1 200 OK\n\n"),
    (47, b"HTTP/1.1 200 O\x00K\r\n\r\n"),
    (47, b"HTTP/1.1 200 O\rK\r\n\r\n"),
    (47, b"HTTP/1.1  200 OK\r\n\r\n"),
    (47, b"HTTP/1.1 20 OK\r\n\r\n"),
    (47, b"HTTP/1.1 2000 OK\r\n\r\n"),
    (47, b"HTTP/1.1 099 OK\r\n\r\n"),
    (47, b"HTTP/1.1 2xx OK\r\n\r\n"),
    (47, b"HTTP/1.1 +20 OK\r\n\r\n"),
    (47, b"HTTP/1.1 2\xb20 OK\r\n\r\n"),
    (47, b"HTTP/1.1 200OK\r\n\r\n"),
    (47, b"HTTP/1.1\r\n\r\n"),
    (47, b"HTTP/1.1 \r\n\r\n"),
    (47, b" HTTP/1.1 200 OK\r\n\r\n"),
    (47, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (47, b"\r\n\r\n"),
    (47, b"http/1.1 200 OK\r\n\r\n"),
    (47, b"HTTP/2.0 200 OK\r\n\r\n"),
    (47, b"HTTP/0.9 200 OK\r\n\r\n"),
    (47, b"HTTP/1.2 200 OK\r\n\r\n"),
    (47, b"ICY 200 OK\r\n\r\n"),
    (47, b"<html>hello</html>\r\n\r\n"),
    (40, b"HTTP/1.1 200 " + b"a" * 8192 + b"\r\n\r\n"),
    (40, STATUS + b"A: " + b"a" * 8190 + b"\r\n\r\n"),
    (40, STATUS + b"A: b\r\n" * 101 + b"\r\n"),
    (40, STATUS + (b"A: " + b"a" * 997 + b"\r\n") * 66 + b"\r\n"),
]

ACCEPTED_REQUESTS = [
    (
        41,
        LINE + b"\r\n",
        RequestHead(method="GET", target="http://a.test/", version=(1, 1), headers=()),
    ),
    (
        39,
        b"\r\n" + LINE + b"\r\n",
        RequestHead(method="GET", target="http://a.test/", version=(1, 1), headers=()),
    ),
    (
        58,
        b'GET http://a.test/%2e%2e/?a=%20&b=<"{|}\\^`>#f HTTP/1.0\r\n\r\n',
        RequestHead(
            method="GET",
            target='http://a.test/%2e%2e/?a=%20&b=<"{|}\\^`>#f',
            version=(1, 0),
            headers=(),
        ),
    ),
    (
        59,
        b"fOO!#$%&'*+-.^_`|~9 x HTTP/1.1\r\n\r\n",
        RequestHead(method="fOO!#$%&'*+-.^_`|~9", target="x", version=(1, 1), headers=()),
    ),
    (
        39,
        (
            b"GET x HTTP/1.1\r\nHoSt:a\r\nB: \t b \tc\t \r\nHOST:\r\nD: \x80\xff\xa0\r\nE:\x85\r\n"
            b"F: :;,\r\n\r\n"
        ),
        RequestHead(
            method="GET",
            target="x",
            version=(1, 1),
            headers=(
                ("HoSt", "a"),
                ("B", "b \tc"),
                ("HOST", ""),
                ("D", "\x80\xff\xa0"),
                ("E", "\x85"),
                ("F", ":;,"),
            ),
        ),
    ),
    (
        40,
        b"GET /" + b"a" * 8178 + b" HTTP/1.1\r\n\r\n",
        RequestHead(method="GET", target="/" + "a" * 8178, version=(1, 1), headers=()),
    ),
    (
        40,
        b"GET x HTTP/1.1\r\nA:" + b"a" * 8190 + b"\r\n\r\n",
        RequestHead(method="GET", target="x", version=(1, 1), headers=(("A", "a" * 8190),)),
    ),
    (
        40,
        b"GET x HTTP/1.1\r\n" + b"A:b\r\n" * 100 + b"\r\n",
        RequestHead(method="GET", target="x", version=(1, 1), headers=(("A", "b"),) * 100),
    ),
    (
        40,  # exactly 64 KiB
        b"GET x HTTP/1.1\r\n"
        + (b"A:" + b"a" * 8186 + b"\r\n") * 7
        + b"A:"
        + b"a" * 8184
        + b"\r\n\r\n",
        RequestHead(
            method="GET",
            target="x",
            version=(1, 1),
            headers=(("A", "a" * 8186),) * 7 + (("A", "a" * 8184),),
        ),
    ),
]

ACCEPTED_RESPONSES = [
    (
        47,
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
        ResponseHead(version=(1, 1), status=200, reason="OK", headers=(("A", "b"),)),
    ),
    (
        47,
        b"HTTP/1.0 404 Not \t\xe9 Found \r\n\r\n",
        ResponseHead(version=(1, 0), status=404, reason="Not \t\xe9 Found ", headers=()),
    ),
    (47, b"HTTP/1.1 200 \r\n\r\n", ResponseHead(version=(1, 1), status=200, reason="", headers=())),
    (47, b"HTTP/1.1 204\r\n\r\n", ResponseHead(version=(1, 1), status=204, reason="", headers=())),
    (
        54,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ResponseHead(version=(1, 1), status=103, reason="Early Hints", headers=(("Link", "</a>"),)),
    ),
    (
        47,
        b"HTTP/1.1 999 Request denied\r\n\r\n",
        ResponseHead(version=(1, 1), status=999, reason="Request denied", headers=()),
    ),
]


def named(cases: list[tuple]) -> list:
    """The cases as parameters whose ids begin with the row of the fault."""
    return [
        pytest.param(*case[1:], id=f"row{case[0]}-{number}") for number, case in enumerate(cases)
    ]


def drip(reader: HeadReader, data: bytes) -> RequestHead | ResponseHead | None:
    """Feeds byte by byte up to the head or the error."""
    for at in range(len(data)):
        head = reader.feed(data[at : at + 1])
        if head is not None:
            assert at == len(data) - 1
            return head
    return None


@pytest.mark.parametrize(("status", "data"), named(REFUSED_REQUESTS))
def test_bad_requests_are_refused_the_same_however_they_come(status: int, data: bytes) -> None:
    """A bad request is refused with one status and one reason: whole, by bytes, with a tail."""
    refusals = []
    for read in (
        lambda: parse_request_head(data),
        lambda: request_reader().feed(data),
        lambda: drip(request_reader(), data),
        lambda: request_reader().feed(data + LINE + b"\r\n"),
    ):
        with pytest.raises(RefusalError) as caught:
            read()
        assert not isinstance(caught.value, UpstreamProtocolError)
        refusals.append(caught.value.status)
    assert refusals == [status] * 4


@pytest.mark.parametrize("data", named(REFUSED_RESPONSES))
def test_bad_responses_are_the_upstreams_fault(data: bytes) -> None:
    """A bad response is UpstreamProtocolError with 502: whole, by bytes, with a tail."""
    for read in (
        lambda: parse_response_head(data),
        lambda: response_reader().feed(data),
        lambda: drip(response_reader(), data),
        lambda: response_reader().feed(data + STATUS + b"\r\n"),
    ):
        with pytest.raises(UpstreamProtocolError) as caught:
            read()
        assert caught.value.status == 502


@pytest.mark.parametrize(("data", "head"), named(ACCEPTED_REQUESTS))
def test_requests_are_read_as_they_stand(data: bytes, head: RequestHead) -> None:
    """A good request gives the same value whole, by bytes, and with a tail that is left alone."""
    assert parse_request_head(data) == head
    assert drip(request_reader(), data) == head
    for cut in (0, 1, 2, 3, len(data) // 2, len(data) - 1):
        reader = request_reader()
        early = reader.feed(data[:cut])
        assert early is None
        assert reader.feed(data[cut:] + b"\r\nGET") == head
        assert reader.tail == b"\r\nGET"


@pytest.mark.parametrize(("data", "head"), named(ACCEPTED_RESPONSES))
def test_responses_are_read_as_they_stand(data: bytes, head: ResponseHead) -> None:
    """A good response gives the same value whole, by bytes, and with a tail that is left alone."""
    assert parse_response_head(data) == head
    assert drip(response_reader(), data) == head
    for cut in (0, 1, 2, len(data) // 2, len(data) - 1):
        reader = response_reader()
        assert reader.feed(data[:cut]) is None
        assert reader.feed(data[cut:] + b"body") == head
        assert reader.tail == b"body"


def test_fields_are_found_by_lower_case_name() -> None:
    """Every value of a name is found, in order, whatever its spelling was."""
    head = parse_request_head(b"GET x HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n")
    assert head.values("a") == ("1", "3")
    assert head.values("b") == ("2",)
    assert head.values("c") == ()
    assert "a" in head
    assert "A" not in head
    assert head.names == ("a", "b", "a")


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", LINE, LINE + b"\r\n" + LINE + b"\r\n", LINE + b"\r\nx", LINE + b"A: b\r\n\r"],
)
def test_whole_parsers_take_exactly_one_head(data: bytes) -> None:
    """Bytes that are less or more than one head are refused by the whole parser."""
    with pytest.raises(RefusalError, match="exactly one head"):
        parse_request_head(data)


def test_find_head_end_resumes() -> None:
    """The end is found when the search goes on where the earlier one ended, at every cut."""
    data = LINE + b"A: b\r\n\r\n"
    for cut in range(len(data)):
        assert find_head_end(data[:cut]) == -1
        assert find_head_end(bytearray(data) + b"tail", cut) == len(data)


def test_limits_are_settable() -> None:
    """A caller's limits replace the defaults, each on its own."""
    data = LINE + b"A: bcdefgh\r\nB: c\r\n\r\n"
    for limits, status in (
        (HeadLimits(first_line_bytes=26), 414),
        (HeadLimits(first_line_bytes=27), None),
        (HeadLimits(header_bytes=9), 431),
        (HeadLimits(header_bytes=10), None),
        (HeadLimits(headers=1), 431),
        (HeadLimits(headers=2), None),
        (HeadLimits(total_bytes=len(data) - 1), 431),
        (HeadLimits(total_bytes=len(data)), None),
    ):
        for read in (
            lambda limits=limits: parse_request_head(data, limits),
            lambda limits=limits: drip(request_reader(limits), data),
        ):
            if status is None:
                assert read() == parse_request_head(data)
            else:
                with pytest.raises(RefusalError) as caught:
                    read()
                assert caught.value.status == status


TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(max_codepoint=255, blacklist_categories=["Cc"]) | st.just("\t"), max_size=30
).map(lambda text: text.replace("\x7f", "").strip(" \t"))
FIELDS = st.lists(st.tuples(TOKENS, VALUES), max_size=8).map(tuple)


@given(TOKENS, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), FIELDS)
def test_what_is_rendered_is_read_back(method: str, target: str, fields: tuple) -> None:
    """Any head made of legal parts is read as exactly these parts."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    data = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    expected = RequestHead(method=method, target=target, version=(1, 1), headers=fields)
    assert parse_request_head(data) == expected
    assert drip(request_reader(), data) == expected


PIECES = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"\n",
            b" ",
            b"\t",
            b":",
            b"A",
            b"b: c",
            b"\r\n\r\n",
            b"\x00",
            b"\x85",
            b"\xa0",
            b"Content-Length: 1",
            b"x",
            b",",
            b"HTTP/1.1",
            b"GET / HTTP/1.1\r\n",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(PIECES, st.data())
def test_splits_do_not_matter(tail: bytes, data: st.DataObject) -> None:
    """Any bytes give one outcome, head and tail or status, however they are cut."""
    raw = b"GET x HTTP/1.1\r\n" * data.draw(st.booleans()) + tail
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    slices = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert outcome(slices) == outcome([raw]) == outcome([bytes([byte]) for byte in raw])


def outcome(slices: list[bytes]) -> object:
    """Head and tail, or the status of the refusal, or None where a head is not complete."""
    reader = request_reader()
    try:
        for number, piece in enumerate(slices, 1):
            if (head := reader.feed(piece)) is not None:
                return head, reader.tail + b"".join(slices[number:])
    except RefusalError as refusal:
        return refusal.status
    return None
