"""What a message says about its connection, and the fields that end with it (RFC 9110 §7.6.1).

1. Connection is a list of tokens. The fields it names go no further than us; naming one that
   frames, routes or describes the message is refused, for it would take it away from the next hop.
2. An answer may name Transfer-Encoding: large content networks do, it changes nothing, for we frame
   anew. A request may not.
3. Only HTTP/1.1 connections persist: HTTP/1.0's keep-alive does not survive a proxy (RFC 9112
   §C.2.2). Proxy-Connection decides nothing.
4. The one upgrade that passes is to WebSocket: GET, HTTP/1.1, no body, both fields, and nothing
   else offered. h2c and all others lose their fields and go on as plain requests (RFC 9110 §7.8).
"""

from __future__ import annotations

import re
from typing import Final

from egress_router.config.text import quote
from egress_router.net.http1.framing import BodyKind, Framing
from egress_router.net.http1.head import HTTP_1_1, RequestHead, ResponseHead
from egress_router.net.http1.lines import TCHAR

SWITCHING: Final = 101

_HOP_BY_HOP: Final = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "http2-settings"),
    )
)
REQUEST_HOP_BY_HOP: Final = _HOP_BY_HOP | {"proxy-authorization"}
RESPONSE_HOP_BY_HOP: Final = _HOP_BY_HOP | {"proxy-authenticate", "proxy-authentication-info"}

_END_TO_END: Final = frozenset(
    (
        *("host", "content-length", "content-type", "content-encoding", "content-range"),
        *("via", "max-forwards", "expect"),
    )
)
_REQUEST_END_TO_END: Final = _END_TO_END | {"transfer-encoding"}

_OPTION = re.compile(f"{TCHAR}+")
_NONE: Final[frozenset[str]] = frozenset()
_USUAL: Final = {  # nearly every Connection field there is, and nothing in it to judge
    "keep-alive": frozenset({"keep-alive"}),
    "Keep-Alive": frozenset({"keep-alive"}),
    "close": frozenset({"close"}),
}


def connection_options(head: RequestHead | ResponseHead) -> frozenset[str]:
    """What the Connection fields list, in lower case, e.g. `{"close"}`.

    Raises the head's error (400) for what is no list of tokens, and for a field that must not be
    named there.
    """
    if "connection" not in head:
        return _NONE
    values = head.values("connection")
    if len(values) == 1 and (usual := _USUAL.get(values[0])):
        return usual
    options = set()
    for value in values:
        listed = [option.strip(" \t") for option in value.lower().split(",")]
        options.update([option for option in listed if option])  # empty ones: RFC 9110 §5.6.1.2
    if not all(map(_OPTION.fullmatch, options)):
        raise head.fault(400, f"Connection {quote(', '.join(values))} is no list of tokens")
    kept = _REQUEST_END_TO_END if isinstance(head, RequestHead) else _END_TO_END
    if not kept.isdisjoint(options):
        named = ", ".join(sorted(kept & options))
        raise head.fault(400, f"Connection names {named}, which is not the connection's")
    return frozenset(options)


def keeps_alive(head: RequestHead | ResponseHead) -> bool:
    """Whether the sender means its connection to outlive this exchange (RFC 9112 §9.3)."""
    return head.version == HTTP_1_1 and "close" not in connection_options(head)


def leaves_reusable(head: ResponseHead, framing: Framing) -> bool:
    """Whether the upstream's connection may carry another request once this body has been read.

    Not after an answer that may not have a body but speaks of one: if it comes, it would be read as
    the next answer.
    """
    if framing.kind is BodyKind.UNTIL_CLOSE or head.status == SWITCHING:
        return False
    if head.status == 204 and ("transfer-encoding" in head or head.values("content-length")):
        return False
    return keeps_alive(head)


def asks_websocket(head: RequestHead) -> bool:
    """Whether a request asks to become a WebSocket in the one form that is passed on."""
    return (
        "upgrade" in head
        and head.method == "GET"
        and head.version == HTTP_1_1
        and "content-length" not in head
        and "transfer-encoding" not in head
        and len(head.values("sec-websocket-key")) == 1
        and _names_websocket(head)
    )


def accepts_websocket(head: ResponseHead) -> bool:
    """Whether an answer switches to WebSocket: 101 with both fields, and no other status."""
    return head.status == SWITCHING and _names_websocket(head)


def _names_websocket(head: RequestHead | ResponseHead) -> bool:
    offers = head.values("upgrade")
    return (
        len(offers) == 1
        and offers[0].lower() == "websocket"
        and "upgrade" in connection_options(head)
    )
