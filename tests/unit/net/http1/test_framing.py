from __future__ import annotations

import pytest

from egress_router.errors import RefusalError
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.framing import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    BodyKind,
    Framing,
    client_framing,
    request_framing,
    response_framing,
)
from egress_router.net.http1.head import parse_request_head, parse_response_head


def length(number: int) -> Framing:
    """A body of so many bytes."""
    return Framing(kind=BodyKind.LENGTH, length=number)


BAD_LENGTHS = [
    *(b"1, 1", b"1,1", b"1 1", b"+1", b"-48", b"-0", b"0x10", b"010", b"00", b"1_0", b"", b","),
    *(b"1,", b"1.0", b"1e3", b"\xb2", b"a", b"1;", b'"1"', b"\x851", b"1\xa0"),
    *(b"9223372036854775808", b"18446744073709551616", b"18446744073709551617", b"1" * 5000),
]
BAD_CODINGS = [
    *(b"xchunked", b",chunked", b"chunked,", b"chunked, chunked", b"gzip, chunked, chunked"),
    *(b"identity", b"gzip", b"chunked, gzip", b"chunked, identity", b"chunkedx", b"chunk"),
    *(b"chunked;a=b", b"chunked ;", b"", b",", b'"chunked"', b"chunked chunked", b"gzip,,chunked"),
    *(b"\x85chunked", b"chunked\x85", b"\xa0chunked", b"chunked\xa0", b"chun\tked", b"chunked;"),
]
CL, TE = b"Content-Length: ", b"Transfer-Encoding: "
BAD_FIELDS = [  # faults.md row, field lines
    *((35, CL + value) for value in BAD_LENGTHS),
    (35, CL + b"1\r\n" + CL + b"1"),
    (35, CL + b"1\r\nCONTENT-LENGTH: 2"),
    (35, CL + b"1\r\n" + TE + b"chunked"),
    (35, TE + b"chunked\r\n" + CL + b"0"),
    (35, TE + b"gzip\r\n" + CL + b"0"),
    *((36, TE + value) for value in BAD_CODINGS),
    (36, TE + b"chunked\r\n" + TE + b"chunked"),
    (36, TE + b"gzip\r\ntransfer-encoding: chunked"),
    (36, TE + b"chunked\r\n" + TE + b""),
]

REQUESTS = [  # row, method and version, field lines, framing or status
    *((row, b"POST x HTTP/1.1", fields, 400) for row, fields in BAD_FIELDS),
    *((row, b"GET x HTTP/1.1", fields, 400) for row, fields in BAD_FIELDS),
    (36, b"POST x HTTP/1.1", TE + b"gzip, chunked", 501),
    (36, b"POST x HTTP/1.1", TE + b"gzip , br\t,\tchunked", 501),
    (36, b"POST x HTTP/1.1", TE + b"identity, chunked", 501),
    (36, b"POST x HTTP/1.0", TE + b"chunked", 400),
    (36, b"POST x HTTP/1.0", TE + b"gzip, chunked", 400),
    (36, b"POST x HTTP/1.1", TE + b"chunked", CHUNKED),
    (36, b"GET x HTTP/1.1", TE + b"\tCHUNKed ", CHUNKED),
    (35, b"POST x HTTP/1.1", CL + b"0", length(0)),
    (35, b"POST x HTTP/1.0", CL + b"10", length(10)),
    (35, b"GET x HTTP/1.1", CL + b"9223372036854775807", length(2**63 - 1)),
    (35, b"POST x HTTP/1.1", b"A: b", NO_BODY),
    (45, b"CONNECT a:1 HTTP/1.1", CL + b"1", 400),
    (45, b"CONNECT a:1 HTTP/1.1", CL + b"0", 400),
    (45, b"CONNECT a:1 HTTP/1.1", TE + b"chunked", 400),
    (45, b"CONNECT a:1 HTTP/1.1", b"A: b", NO_BODY),
]

RESPONSES = [  # row, method of the request, status line, field lines, framing or None for 502
    *((47, "GET", b"HTTP/1.1 200 OK", fields, None) for _, fields in BAD_FIELDS),
    *((47, "HEAD", b"HTTP/1.1 200 OK", fields, None) for _, fields in BAD_FIELDS),
    (48, "GET", b"HTTP/1.1 200 OK", TE + b"gzip", None),
    (48, "GET", b"HTTP/1.1 200 OK", TE + b"gzip, chunked", None),
    (48, "GET", b"HTTP/1.0 200 OK", TE + b"chunked", None),
    (48, "GET", b"HTTP/1.1 304 Not Modified", CL + b"1\r\n" + TE + b"chunked", None),
    (47, "GET", b"HTTP/1.1 200 OK", TE + b"chunked", CHUNKED),
    (47, "GET", b"HTTP/1.1 200 OK", CL + b"7", length(7)),
    (47, "GET", b"HTTP/1.0 200 OK", CL + b"7", length(7)),
    (47, "GET", b"HTTP/1.0 200 OK", b"A: b", UNTIL_CLOSE),
    (47, "GET", b"HTTP/1.1 200 OK", b"A: b", UNTIL_CLOSE),
    (47, "POST", b"HTTP/1.1 205 Reset", CL + b"0", length(0)),
    (53, "HEAD", b"HTTP/1.1 200 OK", CL + b"7", NO_BODY),
    (53, "HEAD", b"HTTP/1.1 200 OK", TE + b"chunked", NO_BODY),
    (53, "HEAD", b"HTTP/1.1 200 OK", b"A: b", NO_BODY),
    (53, "head", b"HTTP/1.1 200 OK", CL + b"7", length(7)),
    (53, "GET", b"HTTP/1.1 204 No Content", CL + b"7", NO_BODY),
    (53, "GET", b"HTTP/1.1 204 No Content", TE + b"chunked", NO_BODY),
    (53, "GET", b"HTTP/1.1 304 Not Modified", CL + b"7", NO_BODY),
    (54, "GET", b"HTTP/1.1 100 Continue", b"A: b", NO_BODY),
    (54, "GET", b"HTTP/1.1 103 Early Hints", CL + b"7", NO_BODY),
    (51, "GET", b"HTTP/1.1 101 Switching", b"A: b", NO_BODY),
    (46, "CONNECT", b"HTTP/1.1 200 OK", CL + b"7", NO_BODY),
    (46, "CONNECT", b"HTTP/1.1 299 OK", b"A: b", NO_BODY),
    (46, "CONNECT", b"HTTP/1.1 407 Auth", CL + b"7", length(7)),
]


def named(cases: list[tuple]) -> list:
    """The cases as parameters whose ids begin with the row of the fault."""
    return [
        pytest.param(*case[1:], id=f"row{case[0]}-{number}") for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("line", "fields", "expected"), named(REQUESTS))
def test_a_requests_framing_is_one_thing_or_refused(
    line: bytes, fields: bytes, expected: Framing | int
) -> None:
    """Every request has exactly one reading of its body's end, or is refused with its status."""
    head = parse_request_head(line + b"\r\nHost: a\r\n" + fields + b"\r\n\r\n")
    if isinstance(expected, int):
        with pytest.raises(RefusalError) as caught:
            request_framing(head)
        assert caught.value.status == expected
        assert not isinstance(caught.value, UpstreamProtocolError)
    else:
        assert request_framing(head) == expected


@pytest.mark.parametrize(("method", "line", "fields", "expected"), named(RESPONSES))
def test_a_responses_framing_is_one_thing_or_the_upstreams_fault(
    method: str, line: bytes, fields: bytes, expected: Framing | None
) -> None:
    """Every response has exactly one reading of its body's end, or is a 502."""
    head = parse_response_head(line + b"\r\nDate: x\r\n" + fields + b"\r\n\r\n")
    if expected is None:
        with pytest.raises(UpstreamProtocolError):
            response_framing(method, head)
    else:
        assert response_framing(method, head) == expected


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "value", [b", " * 4000, b"a, " * 2700 + b"(", b"a" + b" " * 8000 + b"(", b"a,\t" * 2700 + b"b"]
)
def test_a_long_coding_costs_no_more_than_its_length(value: bytes) -> None:
    """A field made to confuse a pattern is refused at once."""
    head = parse_request_head(b"GET x HTTP/1.1\r\n" + TE + value + b"\r\n\r\n")
    with pytest.raises(RefusalError):
        request_framing(head)


@pytest.mark.parametrize("framing", [NO_BODY, CHUNKED, UNTIL_CLOSE, length(3)])
def test_old_clients_get_no_chunks(framing: Framing) -> None:
    """A chunked body goes to HTTP/1.0 until the close; everything else goes as it came (row 52)."""
    assert client_framing(framing, (1, 1)) == framing
    assert client_framing(framing, (1, 0)) == (UNTIL_CLOSE if framing == CHUNKED else framing)
