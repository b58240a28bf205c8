from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.net.http1.answers import (
    TUNNEL_ESTABLISHED,
    ProxyError,
    ProxyStatus,
    escape,
    render_answer,
    render_proxy_status,
)
from egress_router.net.http1.framing import BodyKind, response_framing
from egress_router.net.http1.head import parse_response_head
from egress_router.net.http1.head_reader import response_reader

STATUS = ProxyStatus(proxy="router-1", error=ProxyError.HTTP_REQUEST_DENIED, details="rule 3")


def test_an_answer_as_a_whole() -> None:
    """A refusal is complete: status, text, length, no caching, the cause, and the close."""
    assert render_answer(403, "denied by line 3", STATUS, close=True) == (
        b"HTTP/1.1 403 Forbidden\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"Content-Length: 17\r\n"
        b"Cache-Control: no-store\r\n"
        b'Proxy-Status: router-1; error=http_request_denied; details="rule 3"\r\n'
        b"Connection: close\r\n"
        b"\r\n"
        b"denied by line 3\n"
    )


def test_a_full_router_says_when_to_come_back() -> None:
    """A 503 carries Retry-After in seconds (row 62), and stays open where it may."""
    answer = render_answer(503, "full", STATUS, close=False, retry_after_s=5)
    assert b"\r\nRetry-After: 5\r\n" in answer
    assert b"Connection" not in answer


def test_an_answer_to_head_has_no_body() -> None:
    """HEAD gets the head alone, with the length the body would have."""
    whole = render_answer(502, "no", STATUS, close=True)
    assert render_answer(502, "no", STATUS, close=True, head_only=True) + b"no\n" == whole


def test_an_answer_without_content() -> None:
    """A 204 has neither body nor length."""
    answer = render_answer(204, "", STATUS, close=False, headers=(("Allow", "GET, OPTIONS"),))
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n")
    assert answer.endswith(b"\r\nAllow: GET, OPTIONS\r\n\r\n")
    assert b"Content-" not in answer


@pytest.mark.parametrize(
    ("name", "value"), [("A b", "c"), ("A", "b\r\nC: d"), ("", "b"), ("A", ""), ("A", "\xe9")]
)
def test_a_field_that_cannot_stand_in_a_head_raises(name: str, value: str) -> None:
    """A caller's field is written as it is or not at all."""
    with pytest.raises(ValueError, match="cannot stand"):
        render_answer(405, "no", STATUS, close=True, headers=((name, value),))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ProxyStatus(proxy="r"), "r"),
        (ProxyStatus(proxy="r.a:8080/x*"), "r.a:8080/x*"),
        (ProxyStatus(proxy="*r"), "*r"),
        (ProxyStatus(proxy="10.0.0.1"), '"10.0.0.1"'),
        (ProxyStatus(proxy='a "b"'), '"a \\"b\\""'),
        (ProxyStatus(proxy=""), '""'),
        (ProxyStatus(proxy="r", error=ProxyError.DNS_ERROR), "r; error=dns_error"),
        (ProxyStatus(proxy="r", details='a"b\\c'), 'r; details="a\\"b\\\\c"'),
        (ProxyStatus(proxy="r", details="a\r\nb"), 'r; details="a\\\\r\\\\nb"'),
        (ProxyStatus(proxy="r", details="é€"), 'r; details="\\\\xe9\\\\u20ac"'),
    ],
)
def test_proxy_status_is_a_structured_field(status: ProxyStatus, expected: str) -> None:
    """Names are tokens where they can be, all else is a quoted string (RFC 9651)."""
    assert render_proxy_status(status) == expected


@given(st.text(), st.text(), st.sampled_from([400, 403, 502, 508, 599]))
def test_no_text_breaks_an_answer(text: str, details: str, status: int) -> None:
    """Whatever was quoted from a request, an answer is one response with the length it says."""
    shown = ProxyStatus(proxy=text, details=details)
    raw = render_answer(status, text, shown, close=True)
    reader = response_reader()
    head = reader.feed(raw)
    assert head is not None
    assert head.status == status
    framing = response_framing("GET", head)
    assert framing.kind is BodyKind.LENGTH
    assert framing.length == len(reader.tail)
    assert reader.tail == escape(text).encode("ascii") + b"\n"
    assert raw.isascii()


def test_the_answer_to_connect_starts_a_tunnel() -> None:
    """The answer to an allowed CONNECT is a head without length or coding (RFC 9110 §9.3.6)."""
    head = parse_response_head(TUNNEL_ESTABLISHED)
    assert (head.status, head.headers) == (200, ())
