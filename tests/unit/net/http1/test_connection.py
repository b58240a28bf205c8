from __future__ import annotations

import pytest

from egress_router.errors import RefusalError
from egress_router.net.http1.connection import (
    accepts_websocket,
    asks_websocket,
    connection_options,
    keeps_alive,
    leaves_reusable,
)
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.framing import response_framing
from egress_router.net.http1.head import (
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)


def request(fields: bytes = b"", line: bytes = b"GET x HTTP/1.1") -> RequestHead:
    """A request with these field lines."""
    return parse_request_head(line + b"\r\n" + fields + b"\r\n")


def response(fields: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    """A response with these field lines."""
    return parse_response_head(line + b"\r\n" + fields + b"\r\n")


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (b"", set()),
        (b"Connection: close\r\n", {"close"}),
        (b"Connection: Keep-Alive , X-a\r\nConnection: TE\r\n", {"keep-alive", "x-a", "te"}),
        (b"Connection:\r\n", set()),
        (b"Connection: ,close,, ,\r\n", {"close"}),  # RFC 9110 §5.6.1.2: empty members are allowed
    ],
)
def test_options_are_collected_from_every_field(fields: bytes, options: set[str]) -> None:
    """All Connection fields together are one list, in lower case."""
    assert connection_options(request(fields)) == options
    assert connection_options(response(fields)) == options


@pytest.mark.parametrize(
    "value",
    [b"a b", b"close;x", b"\xa0close", b'"close"', b"close\xff", b"a/b"],
)
def test_junk_in_connection_is_refused(value: bytes) -> None:
    """A Connection field that is no list of tokens is 400, from upstream 502 (row 49)."""
    with pytest.raises(RefusalError) as caught:
        connection_options(request(b"Connection: " + value + b"\r\n"))
    assert caught.value.status == 400
    with pytest.raises(UpstreamProtocolError):
        connection_options(response(b"Connection: " + value + b"\r\n"))


@pytest.mark.timeout(5)
@pytest.mark.parametrize("value", [b", " * 4000 + b"(", b"a," * 4000 + b"(", b"a" + b" " * 8000])
def test_a_long_connection_field_costs_no_more_than_its_length(value: bytes) -> None:
    """A field made to confuse a pattern is judged at once."""
    if value.endswith(b"("):
        with pytest.raises(RefusalError):
            connection_options(request(b"Connection: " + value + b"\r\n"))
    else:
        assert connection_options(request(b"Connection: " + value + b"\r\n")) == {"a"}


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "host, content-length", "close, Transfer-Encoding"),
        *("Content-Encoding", "Content-Type", "Content-Range", "Via", "Max-Forwards", "Expect"),
    ],
)
def test_connection_may_not_take_away_what_frames_or_routes(name: str) -> None:
    """Naming a framing, routing or describing field in Connection is 400 (row 49)."""
    with pytest.raises(RefusalError) as caught:
        connection_options(request(b"Connection: %b\r\n" % name.encode()))
    assert caught.value.status == 400


def test_an_answer_may_name_its_coding() -> None:
    """An answer may name Transfer-Encoding in Connection, but not its length."""
    assert connection_options(response(b"Connection: Transfer-Encoding\r\n"))
    with pytest.raises(UpstreamProtocolError):
        connection_options(response(b"Connection: Content-Length\r\n"))


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        (b"1", b"", True),
        (b"1", b"Connection: keep-alive\r\n", True),
        (b"1", b"Connection: Close\r\n", False),
        (b"1", b"Connection: keep-alive, close\r\n", False),
        (b"1", b"Connection: keep-alive\r\nConnection: x, close\r\n", False),
        (b"1", b"Proxy-Connection: close\r\n", True),
        (b"0", b"", False),
        (b"0", b"Connection: keep-alive\r\n", False),  # RFC 9112 §C.2.2
        (b"0", b"Proxy-Connection: keep-alive\r\n", False),
    ],
)
def test_what_persists(version: bytes, fields: bytes, *, kept: bool) -> None:
    """HTTP/1.1 persists unless it says close; HTTP/1.0 never does (rows 44, 52)."""
    assert keeps_alive(request(fields, b"GET x HTTP/1." + version)) is kept
    assert keeps_alive(response(fields, b"HTTP/1.%b 200 OK" % version)) is kept


@pytest.mark.parametrize(
    ("line", "fields", "reusable"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 1\r\n", True),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked\r\n", True),
        (b"HTTP/1.1 200 OK", b"", False),
        (b"HTTP/1.1 200 OK", b"Content-Length: 1\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK", b"Content-Length: 1\r\nConnection: keep-alive\r\n", False),
        (b"HTTP/1.1 204 No Content", b"", True),
        (b"HTTP/1.1 204 No Content", b"Content-Length: 0\r\n", False),
        (b"HTTP/1.1 204 No Content", b"Transfer-Encoding: chunked\r\n", False),
        (b"HTTP/1.1 304 Not Modified", b"Content-Length: 9\r\n", True),
        (b"HTTP/1.1 101 Switching", b"", False),
    ],
)
def test_what_may_be_reused_upstream(line: bytes, fields: bytes, *, reusable: bool) -> None:
    """An upstream connection is used again only where no byte of a body can be left (row 53)."""
    head = response(fields, line)
    assert leaves_reusable(head, response_framing("GET", head)) is reusable


WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n"


@pytest.mark.parametrize(
    ("line", "fields", "asks"),
    [
        (b"GET x HTTP/1.1", WEBSOCKET, True),
        (b"GET x HTTP/1.1", WEBSOCKET.lower().replace(b"upgrade\r", b"x, UPGRADE\r"), True),
        (b"GET x HTTP/1.1", b"", False),
        (b"GET x HTTP/1.0", WEBSOCKET, False),
        (b"POST x HTTP/1.1", WEBSOCKET, False),
        (b"GET x HTTP/1.1", WEBSOCKET + b"Content-Length: 1\r\n", False),
        (b"GET x HTTP/1.1", WEBSOCKET + b"Transfer-Encoding: chunked\r\n", False),
        (b"GET x HTTP/1.1", WEBSOCKET + b"Upgrade: h2c\r\n", False),
        (b"GET x HTTP/1.1", WEBSOCKET + b"Sec-WebSocket-Key: b\r\n", False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"websocket", b"h2c"), False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"websocket", b"websocket, h2c"), False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"websocket", b"websocket/13"), False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"Connection: Upgrade", b"A: b"), False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"Connection: Upgrade", b"Connection: b"), False),
        (b"GET x HTTP/1.1", WEBSOCKET.replace(b"Sec-WebSocket-Key", b"A"), False),
    ],
)
def test_only_a_plain_websocket_request_upgrades(line: bytes, fields: bytes, *, asks: bool) -> None:
    """An upgrade passes in one form; every other offer is a plain request (rows 50, 51)."""
    assert asks_websocket(request(fields, line)) is asks


@pytest.mark.parametrize(
    ("line", "fields", "accepts"),
    [
        (b"HTTP/1.1 101 Switching", WEBSOCKET, True),
        (b"HTTP/1.1 200 OK", WEBSOCKET, False),
        (b"HTTP/1.1 101 Switching", b"", False),
        (b"HTTP/1.1 101 Switching", b"Upgrade: websocket\r\n", False),
        (b"HTTP/1.1 101 Switching", WEBSOCKET.replace(b"websocket", b"h2c"), False),
    ],
)
def test_only_a_101_with_both_fields_switches(line: bytes, fields: bytes, *, accepts: bool) -> None:
    """A 200 is no switch, and a 101 to anything but WebSocket is none either (row 51)."""
    assert accepts_websocket(response(fields, line)) is accepts
