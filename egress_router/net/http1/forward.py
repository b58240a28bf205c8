"""What a proxy changes in a head on its way through, and nothing else (RFC 9110 §7.6).

1. The first line is ours: HTTP/1.1 on both sides whatever came in (RFC 9110 §2.5); the path and the
   reason pass byte for byte.
2. Host is written from the target, never copied (RFC 9112 §3.2.2), and stands first.
3. Fields of the connection stop here, both ways, with what Connection names; so do the proxy's own
   credentials. Framing is written from what was understood, not from what was read.
4. Via gains a field of ours, the received version and our pseudonym. A request that already names
   us is a loop, 508 (RFC 9110 §7.6.3).
5. Nothing tells the client's address: no X-Forwarded-For, no Forwarded. Those a client sends pass
   unchanged, as do Date, Server, Content-Encoding and every field not named here.
6. TRACE and OPTIONS count Max-Forwards down; at 0 they go no further (RFC 9110 §7.6.2).
7. `Expect: 100-continue` passes, from HTTP/1.0 it is dropped; any other one is 417 (RFC 9110
   §10.1.1). 1xx answers pass, but not to HTTP/1.0, which does not know them (RFC 9110 §15.2).
8. `TE: trailers` is said anew to the upstream where a client said it, for its trailers do pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from egress_router.config.text import quote
from egress_router.net.http1.connection import (
    REQUEST_HOP_BY_HOP,
    RESPONSE_HOP_BY_HOP,
    accepts_websocket,
    asks_websocket,
    connection_options,
)
from egress_router.net.http1.errors import UpstreamProtocolError
from egress_router.net.http1.framing import BodyKind, Framing, client_framing
from egress_router.net.http1.head import HTTP_1_0, HTTP_1_1, RequestHead, ResponseHead
from egress_router.net.http1.lines import TCHAR

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_VISIBLE = re.compile(r"[!-~]+")
_PSEUDONYM = re.compile(rf"{TCHAR}+")
_HOPS = re.compile(r"[0-9]{1,9}")  # RFC 9110 §7.6.2 sets no end; a billion hops is past every one
_VERSION_TEXT: Final = {HTTP_1_0: "1.0", HTTP_1_1: "1.1"}
_ALWAYS_REPLACED: Final = REQUEST_HOP_BY_HOP | {"host"}
_COUNTED_METHODS: Final = frozenset(("TRACE", "OPTIONS"))
_CONTINUE: Final = "100-continue"


def forward_request(  # noqa: PLR0913 - each is a decision of the caller's, and all are named
    head: RequestHead,
    framing: Framing,
    *,
    path: str,
    host: str,
    via: str,
    keep_alive: bool,
) -> bytes:
    """The head to send upstream.

    `path` is the request target to send, in origin-form or `*`; `host` the Host field, e.g.
    `a.test:8080`; `via` our pseudonym, a token; without `keep_alive` the upstream is told to close.
    A request that `asks_websocket` keeps its upgrade. Raises RefusalError: 400 (Connection, junk in
    Max-Forwards), 405 (Max-Forwards 0: see `may_go_further`), 417, 508.
    """
    if not (_VISIBLE.fullmatch(path) and _VISIBLE.fullmatch(host) and _PSEUDONYM.fullmatch(via)):
        raise ValueError(f"{path!r}, {host!r} or {via!r} cannot stand in a head")
    options = connection_options(head)
    if "via" in head and names_us(head.values("via"), via):
        raise head.fault(508, f"the request has passed {via} before")
    dropped = _ALWAYS_REPLACED | options if options else _ALWAYS_REPLACED
    added = []
    if "expect" in head and not expects_continue(head):
        dropped |= {"expect"}
    if "max-forwards" in head and (hops := _hops_left(head)) is not None:
        if hops == 0:
            raise head.fault(405, f"{head.method} with Max-Forwards 0 goes no further")
        dropped |= {"max-forwards"}
        added.append(f"Max-Forwards: {hops - 1}\r\n")
    if framing.kind is BodyKind.CHUNKED:
        added.append("Transfer-Encoding: chunked\r\n")
    added.append(f"Via: {_VERSION_TEXT[head.version]} {via}\r\n")
    added.append(_request_connection(head, keep_alive=keep_alive))
    lines = "".join(_kept(head, dropped))
    text = f"{head.method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}{''.join(added)}\r\n"
    return text.encode("latin-1")


def forward_response(
    head: ResponseHead,
    framing: Framing,
    *,
    client_version: tuple[int, int],
    via: str,
    keep_alive: bool,
) -> bytes:
    """The head of a final answer to send to the client.

    `framing` is what `response_framing` said; the body goes out as `client_framing` says. Whenever
    that ends with the connection, and for every HTTP/1.0 client, the answer says close, whatever
    `keep_alive` asks; `client_keeps` tells. Raises UpstreamProtocolError for 1xx, which is
    not final, and for a Connection field that is wrong.
    """
    if head.status < 200:
        raise UpstreamProtocolError(f"status {head.status} where a final one is due")
    dropped = RESPONSE_HOP_BY_HOP | connection_options(head)
    if head.status == 204:
        dropped |= {"content-length"}  # RFC 9110 §8.6: none belongs there
    added = f"Via: {_VERSION_TEXT[head.version]} {via}\r\n"
    if client_framing(framing, client_version).kind is BodyKind.CHUNKED:
        added += "Transfer-Encoding: chunked\r\n"
    if not client_keeps(framing, client_version, keep_alive=keep_alive):
        added += "Connection: close\r\n"
    return _render_response(head, dropped, added)


def client_keeps(framing: Framing, client_version: tuple[int, int], *, keep_alive: bool) -> bool:
    """Whether the client's connection outlives this answer, and so what its head says."""
    ends = client_framing(framing, client_version).kind is BodyKind.UNTIL_CLOSE
    return keep_alive and client_version == HTTP_1_1 and not ends


def forward_interim(head: ResponseHead, *, client_version: tuple[int, int], via: str) -> bytes:
    """The head of a 1xx answer to send to the client; nothing for HTTP/1.0.

    Raises UpstreamProtocolError for 101, which is `forward_switch`'s and only where asked for.
    """
    if head.status >= 200 or head.status == 101:
        raise UpstreamProtocolError(f"status {head.status} where none was asked for")
    if client_version == HTTP_1_0:
        return b""
    dropped = RESPONSE_HOP_BY_HOP | connection_options(head) | {"content-length"}
    return _render_response(head, dropped, f"Via: {_VERSION_TEXT[head.version]} {via}\r\n")


def forward_switch(head: ResponseHead, *, via: str) -> bytes:
    """The 101 that makes client and upstream a WebSocket, for a request that `asks_websocket`.

    Raises UpstreamProtocolError for a 101 that switches to anything else.
    """
    if not accepts_websocket(head):
        raise UpstreamProtocolError("status 101 switches to something else than websocket")
    dropped = RESPONSE_HOP_BY_HOP | connection_options(head) | {"content-length"}
    added = f"Via: {_VERSION_TEXT[head.version]} {via}\r\n"
    return _render_response(head, dropped, f"{added}Connection: Upgrade\r\nUpgrade: websocket\r\n")


def expects_continue(head: RequestHead) -> bool:
    """Whether the client waits for a 100 before it sends its body (RFC 9110 §10.1.1).

    Raises RefusalError (417) for an expectation we do not know; HTTP/1.0 has none.
    """
    if head.version == HTTP_1_0:
        return False
    values = head.values("expect")
    for value in values:
        if value.lower() != _CONTINUE:
            raise head.fault(417, f"Expect {quote(value)}; only {_CONTINUE} is known")
    return bool(values)


def may_go_further(head: RequestHead) -> bool:
    """Whether Max-Forwards lets a request pass; if not, it is ours to answer (TRACE with 405).

    Raises RefusalError (400) for a Max-Forwards that is no number.
    """
    return _hops_left(head) != 0


def names_us(via: tuple[str, ...], pseudonym: str) -> bool:
    """Whether a hop in these Via values is `pseudonym`, as `us` is in `1.0 fred, 1.1 us (x)`."""
    ours = pseudonym.lower()
    for value in via:
        for hop in value.lower().split(","):
            words = hop.split()
            if len(words) > 1 and words[1] == ours:
                return True
    return False


def _hops_left(head: RequestHead) -> int | None:
    values = head.values("max-forwards")
    if not values or head.method not in _COUNTED_METHODS:
        return None
    if len(values) > 1 or not _HOPS.fullmatch(values[0]):
        raise head.fault(400, f"Max-Forwards {quote(', '.join(values))} is no number")
    return int(values[0])


def _request_connection(head: RequestHead, *, keep_alive: bool) -> str:
    """The Connection field for the upstream, with the fields that it names."""
    if asks_websocket(head):
        return "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    trailers = "te" in head and head.version == HTTP_1_1 and _takes_trailers(head)
    if trailers:
        return f"Connection: {'' if keep_alive else 'close, '}TE\r\nTE: trailers\r\n"
    return "" if keep_alive else "Connection: close\r\n"


def _takes_trailers(head: RequestHead) -> bool:
    return any(
        coding.strip(" \t").lower() == "trailers"
        for value in head.values("te")
        for coding in value.split(",")
    )


def _kept(head: RequestHead | ResponseHead, dropped: AbstractSet[str]) -> list[str]:
    """The field lines whose lower-case names are not in `dropped`."""
    return [
        f"{header[0]}: {header[1]}\r\n"
        for name, header in zip(head.names, head.headers, strict=True)
        if name not in dropped
    ]


def _render_response(head: ResponseHead, dropped: AbstractSet[str], added: str) -> bytes:
    lines = "".join(_kept(head, dropped))
    return f"HTTP/1.1 {head.status} {head.reason}\r\n{lines}{added}\r\n".encode("latin-1")
