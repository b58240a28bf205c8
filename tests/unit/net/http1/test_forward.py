from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.errors import RefusalError
from egress_router.net.http1.connection import REQUEST_HOP_BY_HOP, RESPONSE_HOP_BY_HOP
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.forward import (
    client_keeps,
    expects_continue,
    forward_interim,
    forward_request,
    forward_response,
    forward_switch,
    may_go_further,
    names_us,
)
from egress_router.net.http1.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    request_framing,
    response_framing,
)
from egress_router.net.http1.head import (
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)

HOST = b"Host: a.test\r\n"
VIA = b"Via: 1.1 us\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"


def sent(
    fields: bytes = b"",
    *,
    line: bytes = b"GET http://a.test/p HTTP/1.1",
    path: str = "/p",
    host: str = "a.test",
    keep_alive: bool = True,
) -> bytes:
    """What goes upstream for a request with these field lines."""
    head = parse_request_head(line + b"\r\n" + fields + b"\r\n")
    framing = request_framing(head)
    return forward_request(head, framing, path=path, host=host, via="us", keep_alive=keep_alive)


def answered(
    fields: bytes = b"",
    *,
    line: bytes = b"HTTP/1.1 200 OK",
    method: str = "GET",
    version: tuple[int, int] = (1, 1),
    keep_alive: bool = True,
) -> bytes:
    """What goes to the client for a response with these field lines."""
    head = parse_response_head(line + b"\r\n" + fields + b"\r\n")
    framing = response_framing(method, head)
    return forward_response(head, framing, client_version=version, via="us", keep_alive=keep_alive)


def named(cases: list[tuple]) -> list:
    """The cases as parameters whose ids begin with the row of the fault."""
    return [
        pytest.param(*case[1:], id=f"row{case[0]}-{number}") for number, case in enumerate(cases)
    ]


REQUEST_FIELDS = [  # faults.md row, field lines in, field lines out (between Host and the end)
    (56, b"", VIA),
    (56, b"Via: 1.0 fred, 1.1 p.test (us)\r\n", b"Via: 1.0 fred, 1.1 p.test (us)\r\n" + VIA),
    (22, b"Host: other.test\r\nA: b\r\n", b"A: b\r\n" + VIA),
    (49, b"Connection: x-a, close\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\n", b"X-B: 3\r\n" + VIA),
    (
        49,
        (
            b"Keep-Alive: 5\r\nProxy-Connection: a\r\nProxy-Authorization: b\r\nTE: gzip\r\n"
            b"Trailer: c\r\nUpgrade: d\r\nA: b\r\n"
        ),
        b"A: b\r\n" + VIA,
    ),
    (49, b"Connection: keep-alive\r\n", VIA),
    (49, b"Connection: TE\r\nTE: trailers, gzip\r\n", VIA + b"Connection: TE\r\nTE: trailers\r\n"),
    (
        50,
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
        VIA,
    ),
    (50, b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n", VIA),
    (51, b"Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n", b"Sec-WebSocket-Key: k\r\n" + VIA),
    (
        51,
        WEBSOCKET,
        b"Sec-WebSocket-Key: k\r\n" + VIA + b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ),
    (54, b"Expect: 100-Continue\r\n", b"Expect: 100-Continue\r\n" + VIA),
    (55, b"Max-Forwards: 5\r\n", b"Max-Forwards: 5\r\n" + VIA),
    (57, b"Accept-Encoding: gzip\r\n", b"Accept-Encoding: gzip\r\n" + VIA),
    (
        32,
        b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\n",
        b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\n" + VIA,
    ),
    (57, b"A:  \x80\xff \r\nCookie: a=b\r\n", b"A: \x80\xff\r\nCookie: a=b\r\n" + VIA),
    (35, b"Content-Length: 5\r\n", b"Content-Length: 5\r\n" + VIA),
    (36, b"transfer-encoding:CHUNKED\r\n", b"Transfer-Encoding: chunked\r\n" + VIA),
]


@pytest.mark.parametrize(("fields", "expected"), named(REQUEST_FIELDS))
def test_request_fields_pass_or_stop(fields: bytes, expected: bytes) -> None:
    """Of a request's fields exactly those meant for the origin go on, in order and spelling."""
    assert sent(fields) == b"GET /p HTTP/1.1\r\n" + HOST + expected + b"\r\n"


REFUSED_FIELDS = [
    (49, 400, b"Connection: Host\r\n"),
    (49, 400, b"Connection: content-length, close\r\n"),
    (49, 400, b"Connection: Transfer-Encoding\r\n"),
    (49, 400, b"Connection: a b\r\n"),
    (54, 417, b"Expect: 200-ok\r\n"),
    (54, 417, b"Expect: 100-continue, x\r\n"),
    (54, 417, b"Expect: 100-continue\r\nExpect: x\r\n"),
    (56, 508, b"Via: 1.1 us\r\n"),
    (56, 508, b"Via: 1.0 fred, HTTP/1.1 US (x)\r\n"),
    (56, 508, b"Via: 1.0 fred\r\nVia: 1.1\tus\r\n"),
]


@pytest.mark.parametrize(("status", "fields"), named(REFUSED_FIELDS))
def test_a_request_that_may_not_go_on_is_refused(status: int, fields: bytes) -> None:
    """A loop, a misused Connection and an unknown expectation have each their status."""
    with pytest.raises(RefusalError) as caught:
        sent(fields)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "path", ["/", "/%2e%2e/", "/?a=%20&b", "//x/../y", '/a;b=<>"{}|\\^`', "*", "/%C3%A4"]
)
def test_the_path_passes_byte_for_byte(path: str) -> None:
    """No path is normalised, decoded or encoded (row 58)."""
    assert sent(path=path).startswith(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: ")


@pytest.mark.parametrize(
    ("path", "host"), [("/a b", "h"), ("/\r\nX: y", "h"), ("", "h"), ("/", ""), ("/", "h\r\nX: y")]
)
def test_nothing_can_be_smuggled_in_by_the_caller(path: str, host: str) -> None:
    """A path or host that cannot stand in a head is a mistake of ours and raises."""
    with pytest.raises(ValueError, match="cannot stand"):
        sent(path=path, host=host)


def test_an_old_client_is_served_as_a_new_one() -> None:
    """A request of HTTP/1.0 goes on as 1.1 with Host, without its expectation (rows 52, 54)."""
    fields = b"Connection: keep-alive\r\nExpect: x\r\nTE: trailers\r\nContent-Length: 2\r\n"
    expected = b"POST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nVia: 1.0 us\r\n\r\n"
    assert sent(fields, line=b"POST http://a.test/p HTTP/1.0") == expected


def test_an_unknown_method_passes() -> None:
    """A method nobody registered goes on as it is (row 59)."""
    assert sent(line=b"fOO x HTTP/1.1").startswith(b"fOO /p HTTP/1.1\r\n")


def test_the_upstream_is_told_to_close() -> None:
    """Without keep-alive the upstream reads close, beside TE where that is due."""
    assert sent(keep_alive=False).endswith(VIA + b"Connection: close\r\n\r\n")
    with_te = sent(b"TE: trailers\r\n", keep_alive=False)
    assert with_te.endswith(VIA + b"Connection: close, TE\r\nTE: trailers\r\n\r\n")


HOPS = [  # row, method, value, may go on, value sent or status
    (55, b"TRACE", b"0", False, 405),
    (55, b"OPTIONS", b"0", False, 405),
    (55, b"OPTIONS", b"00", False, 405),
    (55, b"TRACE", b"1", True, b"0"),
    (55, b"OPTIONS", b"10", True, b"9"),
    (55, b"GET", b"0", True, b"0"),
    (55, b"GET", b"junk", True, b"junk"),
    (55, b"TRACE", b"junk", None, 400),
    (55, b"TRACE", b"-1", None, 400),
    (55, b"TRACE", b"+1", None, 400),
    (55, b"TRACE", b"\xb2", None, 400),
    (55, b"TRACE", b"", None, 400),
    (55, b"TRACE", b"1, 2", None, 400),
    (55, b"TRACE", b"1\r\nMax-Forwards: 2", None, 400),
    (55, b"TRACE", b"1" * 5000, None, 400),
]


@pytest.mark.parametrize(("method", "value", "passes", "expected"), named(HOPS))
def test_hops_are_counted_down(
    method: bytes,
    value: bytes,
    passes: object,
    expected: bytes | int,
) -> None:
    """Max-Forwards goes down by one for TRACE and OPTIONS, and at 0 nothing goes on."""
    line, fields = method + b" x HTTP/1.1", b"Max-Forwards: " + value + b"\r\n"
    head = parse_request_head(line + b"\r\n" + fields + b"\r\n")
    if passes is None:
        with pytest.raises(RefusalError):
            may_go_further(head)
    else:
        assert may_go_further(head) is passes
    if isinstance(expected, int):
        with pytest.raises(RefusalError) as caught:
            sent(fields, line=line)
        assert caught.value.status == expected
    else:
        assert b"Max-Forwards: " + expected + b"\r\n" in sent(fields, line=line)


@pytest.mark.parametrize(
    ("values", "named_us"),
    [
        ((), False),
        (("1.1 other",), False),
        (("1.1 us.test",), False),
        (("us 1.1",), False),
        (("1.1 other (1.1 us)",), False),
        (("us",), False),
        (("",), False),
        (("1.1 other", "1.1 us"), True),
        (("1.1 other,1.1 Us (comment)",), True),
        (("FTP/2 us",), True),
    ],
)
def test_we_know_our_name_in_via(values: tuple[str, ...], *, named_us: bool) -> None:
    """Our pseudonym is found in any Via field, as a received-by and nothing else (row 56)."""
    assert names_us(values, "us") is named_us


RESPONSES = [  # row, changes to the case, field lines in, field lines out
    (56, {}, b"Content-Length: 1\r\n", b"Content-Length: 1\r\n" + VIA),
    (
        56,
        {"line": b"HTTP/1.0 200 OK"},
        b"Content-Length: 1\r\n",
        b"Content-Length: 1\r\nVia: 1.0 us\r\n",
    ),
    (
        49,
        {},
        (
            b"Connection: x-a, keep-alive\r\nX-A: b\r\nKeep-Alive: 5\r\nProxy-Authenticate: C\r\n"
            b"Proxy-Connection: a\r\nTrailer: c\r\nUpgrade: d\r\nTE: e\r\nContent-Length: 0\r\n"
        ),
        b"Content-Length: 0\r\n" + VIA,
    ),
    (
        57,
        {},
        (
            b"Date: a\r\nServer: b\r\nContent-Encoding: gzip\r\nSet-Cookie: c\r\nSet-Cookie: d\r\n"
            b"Content-Length: 1\r\n"
        ),
        b"Date: a\r\nServer: b\r\nContent-Encoding: gzip\r\nSet-Cookie: c\r\nSet-Cookie: d\r\n"
        b"Content-Length: 1\r\n" + VIA,
    ),
    (47, {}, b"Transfer-Encoding: Chunked\r\n", VIA + b"Transfer-Encoding: chunked\r\n"),
    (
        47,
        {},
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        VIA + b"Transfer-Encoding: chunked\r\n",
    ),
    (47, {}, b"A: b\r\n", b"A: b\r\n" + VIA + b"Connection: close\r\n"),
    (
        44,
        {"keep_alive": False},
        b"Content-Length: 1\r\n",
        b"Content-Length: 1\r\n" + VIA + b"Connection: close\r\n",
    ),
    (44, {}, b"Connection: close\r\nContent-Length: 1\r\n", b"Content-Length: 1\r\n" + VIA),
    (
        52,
        {"version": (1, 0)},
        b"Content-Length: 1\r\n",
        b"Content-Length: 1\r\n" + VIA + b"Connection: close\r\n",
    ),
    (52, {"version": (1, 0)}, b"Transfer-Encoding: chunked\r\n", VIA + b"Connection: close\r\n"),
    (53, {"method": "HEAD"}, b"Content-Length: 9\r\n", b"Content-Length: 9\r\n" + VIA),
    (53, {"method": "HEAD"}, b"Transfer-Encoding: chunked\r\n", VIA),
    (53, {"method": "HEAD"}, b"A: b\r\n", b"A: b\r\n" + VIA),
    (53, {"line": b"HTTP/1.1 304 OK"}, b"Content-Length: 9\r\n", b"Content-Length: 9\r\n" + VIA),
    (53, {"line": b"HTTP/1.1 204 OK"}, b"Content-Length: 9\r\n", VIA),
    (53, {"line": b"HTTP/1.1 204 OK"}, b"Transfer-Encoding: chunked\r\n", VIA),
]


@pytest.mark.parametrize(("changes", "fields", "expected"), named(RESPONSES))
def test_response_fields_pass_or_stop(changes: dict, fields: bytes, expected: bytes) -> None:
    """Of an answer's fields exactly those meant for the client go on, framed as we send it."""
    status = changes.get("line", b"HTTP/1.1 200 OK")[8:]
    assert answered(fields, **changes) == b"HTTP/1.1" + status + b"\r\n" + expected + b"\r\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.0 299 A \t\xe9", b"HTTP/1.1 299 A \t\xe9\r\n"),
        (b"HTTP/1.1 999 ", b"HTTP/1.1 999 \r\n"),
        (b"HTTP/1.1 200", b"HTTP/1.1 200 \r\n"),
    ],
)
def test_status_and_reason_pass(line: bytes, expected: bytes) -> None:
    """The status line goes on with our version and the reason's own bytes."""
    assert answered(line=line).startswith(expected)


def test_what_the_head_says_is_what_the_caller_is_told() -> None:
    """client_keeps is true exactly where the head does not say close."""
    for fields in (b"", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"):
        for version in ((1, 0), (1, 1)):
            for keep_alive in (True, False):
                head = parse_response_head(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
                framing = response_framing("GET", head)
                kept = client_keeps(framing, version, keep_alive=keep_alive)
                text = answered(fields, version=version, keep_alive=keep_alive)
                assert kept is (b"Connection: close" not in text)
    assert not client_keeps(UNTIL_CLOSE, (1, 1), keep_alive=True)
    assert client_keeps(CHUNKED, (1, 1), keep_alive=True)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_answers_pass_to_new_clients_alone(status: int) -> None:
    """Every 1xx but 101 goes to HTTP/1.1 clients and to none of HTTP/1.0 (rows 52, 54)."""
    line = b"HTTP/1.1 %d Hm" % status
    fields = b"Link: a\r\nContent-Length: 0\r\nConnection: close\r\n"
    head = parse_response_head(line + b"\r\n" + fields + b"\r\n")
    expected = line + b"\r\nLink: a\r\n" + VIA + b"\r\n"
    assert forward_interim(head, client_version=(1, 1), via="us") == expected
    assert forward_interim(head, client_version=(1, 0), via="us") == b""
    with pytest.raises(UpstreamProtocolError):
        answered(fields, line=line)


def test_a_switch_passes_only_to_websocket() -> None:
    """A 101 goes on as WebSocket or not at all, and never as an interim answer (row 51)."""
    fields = b"Sec-WebSocket-Accept: a\r\nupgrade: WebSocket\r\nconnection: x, upgrade\r\nX: y\r\n"
    head = parse_response_head(b"HTTP/1.1 101 S\r\n" + fields + b"\r\n")
    assert forward_switch(head, via="us") == (
        b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: a\r\n"
        + VIA
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    with pytest.raises(UpstreamProtocolError):
        forward_interim(head, client_version=(1, 1), via="us")
    for line, lines in (
        (b"HTTP/1.1 101 S", b"Upgrade: h2c\r\nConnection: upgrade\r\n"),
        (b"HTTP/1.1 101 S", b""),
        (b"HTTP/1.1 200 OK", fields),
    ):
        with pytest.raises(UpstreamProtocolError):
            forward_switch(parse_response_head(line + b"\r\n" + lines + b"\r\n"), via="us")


@pytest.mark.parametrize(
    ("version", "fields", "waits"),
    [
        (b"1", b"", False),
        (b"1", b"Expect: 100-continue\r\n", True),
        (b"0", b"Expect: 100-continue\r\n", False),
        (b"0", b"Expect: other\r\n", False),
    ],
)
def test_who_waits_for_a_100(version: bytes, fields: bytes, *, waits: bool) -> None:
    """Only an HTTP/1.1 client that asked is waiting for a 100 (row 54)."""
    head = parse_request_head(b"POST x HTTP/1." + version + b"\r\n" + fields + b"\r\n")
    assert expects_continue(head) is waits


NAMES = st.sampled_from(
    [*sorted(REQUEST_HOP_BY_HOP | RESPONSE_HOP_BY_HOP - {"connection"}), "X-A", "x-b", "Cookie"]
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from(["a", "\xe9", "", "b, c"])), max_size=8)
OPTIONS = st.lists(st.sampled_from(["close", "X-a", "x-B", "te", "Cookie"]), max_size=4)


@given(FIELDS, OPTIONS, st.booleans())
def test_what_is_sent_reads_as_one_request(
    fields: list,
    options: list,
    keep_alive: bool,
) -> None:
    """What goes upstream is accepted by our own reader, framed alike, with no field of the hop."""
    fields = [pair for pair in fields if pair[0].lower() not in ("transfer-encoding", "connection")]
    given_fields = (("Connection", ", ".join(options)), ("Content-Length", "5"), *fields)
    head = RequestHead(method="PUT", target="x", version=(1, 1), headers=given_fields)
    raw = forward_request(
        head, request_framing(head), path="/", host="a.test", via="us", keep_alive=keep_alive
    )
    read = parse_request_head(raw)
    assert request_framing(read) == request_framing(head)
    stopped = (REQUEST_HOP_BY_HOP - {"connection"}) | {option.lower() for option in options}
    assert [pair for pair in read.headers if pair[0] in ("X-A", "x-b", "Cookie")] == [
        pair
        for pair in fields
        if pair[0] in ("X-A", "x-b", "Cookie") and pair[0].lower() not in stopped
    ]
    assert not stopped & set(read.names)
    assert read.values("host") == ("a.test",)
    assert read.values("connection") == (() if keep_alive else ("close",))


@given(FIELDS, st.sampled_from([(1, 0), (1, 1)]), st.booleans())
def test_what_is_answered_reads_as_one_response(
    fields: list,
    version: tuple[int, int],
    keep_alive: bool,
) -> None:
    """What goes to the client is accepted by our own reader and ends where the body ends."""
    fields = [pair for pair in fields if pair[0].lower() not in ("transfer-encoding", "connection")]
    head = ResponseHead(
        status=200, reason="OK", version=(1, 1), headers=(*fields, ("Content-Length", "5"))
    )
    framing = response_framing("GET", head)
    raw = forward_response(head, framing, client_version=version, via="us", keep_alive=keep_alive)
    read = parse_response_head(raw)
    assert response_framing("GET", read) == framing
    assert not (RESPONSE_HOP_BY_HOP - {"connection"}) & set(read.names)
