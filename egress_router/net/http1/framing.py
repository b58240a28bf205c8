"""Where a message's body ends: decided once, from its head alone (RFC 9112 §6.3).

1. Content-Length and Transfer-Encoding together, more than one of either, a list in either, or a
   length that is not a plain decimal number below 2^63 without leading zeros: refused. No side of
   a contradiction is believed.
2. Transfer-Encoding is `chunked` and nothing else, and only in HTTP/1.1. A request with another
   coding before a final `chunked` is 501; one that does not end in `chunked` has no end, 400.
3. CONNECT has no body; a length or coding on it is refused (RFC 9110 §9.3.6).
4. Answers to HEAD, and 1xx, 204 and 304, have none whatever they say; yet what they say must be
   well formed, for it is passed on. The answer 2xx to CONNECT and a 101 are followed by a tunnel.
5. A response with neither ends with its connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from egress_router.config.text import quote
from egress_router.net.http1.head import HTTP_1_0, RequestHead, ResponseHead
from egress_router.net.http1.lines import TCHAR

if TYPE_CHECKING:
    from egress_router.errors import RefusalError

LENGTH_MAX: Final = 2**63 - 1  # what peers written in C hold in a signed 64-bit number

_LENGTH = re.compile(r"0|[1-9][0-9]{0,18}")
_CODINGS = re.compile(rf"{TCHAR}+(?:[ \t]*,[ \t]*{TCHAR}+)*")


class BodyKind(Enum):
    """How the end of a body is told."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How a body ends; `length` counts bytes and is 0 unless `kind` is LENGTH."""

    kind: BodyKind
    length: int = 0


NO_BODY: Final = Framing(kind=BodyKind.NONE)
CHUNKED: Final = Framing(kind=BodyKind.CHUNKED)
UNTIL_CLOSE: Final = Framing(kind=BodyKind.UNTIL_CLOSE)


def request_framing(head: RequestHead) -> Framing:
    """The framing of a request's body; raises RefusalError (400, 501)."""
    stated = _stated_framing(head)
    if stated is None:
        return NO_BODY
    if head.method == "CONNECT":
        raise head.fault(400, "a CONNECT request with a body")
    return stated


def response_framing(request_method: str, head: ResponseHead) -> Framing:
    """The framing of the answer to a request of that method; raises UpstreamProtocolError."""
    stated = _stated_framing(head)
    status = head.status
    if status < 200 or status in {204, 304} or request_method == "HEAD":
        return NO_BODY
    if request_method == "CONNECT" and status < 300:
        return NO_BODY
    return stated or UNTIL_CLOSE


def client_framing(framing: Framing, client_version: tuple[int, int]) -> Framing:
    """How a body of that framing goes on to a client: HTTP/1.0 knows no chunks (RFC 9112 §6.1)."""
    if framing.kind is BodyKind.CHUNKED and client_version == HTTP_1_0:
        return UNTIL_CLOSE
    return framing


def _stated_framing(head: RequestHead | ResponseHead) -> Framing | None:
    """What the two framing fields say, or None where there is neither."""
    codings = head.values("transfer-encoding")
    lengths = head.values("content-length")
    if codings:
        if lengths:
            raise head.fault(400, "both Content-Length and Transfer-Encoding")
        if head.version == HTTP_1_0:
            raise head.fault(400, "Transfer-Encoding in an HTTP/1.0 message")
        if len(codings) > 1:
            raise head.fault(400, f"{len(codings)} Transfer-Encoding fields")
        if codings[0].lower() != "chunked":
            raise _coding_fault(head, codings[0])
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1:
        raise head.fault(400, f"{len(lengths)} Content-Length fields")
    length = int(lengths[0]) if _LENGTH.fullmatch(lengths[0]) else LENGTH_MAX + 1
    if length > LENGTH_MAX:
        raise head.fault(400, f"Content-Length {quote(lengths[0])} is no plain number below 2^63")
    return Framing(kind=BodyKind.LENGTH, length=length)


def _coding_fault(head: RequestHead | ResponseHead, value: str) -> RefusalError:
    shown = f"Transfer-Encoding {quote(value)}"
    if not _CODINGS.fullmatch(value):
        return head.fault(400, f"{shown} is no list of codings without parameters")
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings[-1] != "chunked":
        return head.fault(400, f"{shown} does not end in chunked, so the body has no end")
    if "chunked" in codings[:-1]:
        return head.fault(400, f"{shown} names chunked twice")
    return head.fault(501, f"{shown} asks for a coding beside chunked")
