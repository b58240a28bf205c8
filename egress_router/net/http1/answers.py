"""The answers that are the proxy's own: short plain text, and why in a Proxy-Status field.

1. An answer is complete in itself: length, type, `Cache-Control: no-store`, and whether the
   connection ends.
2. Proxy-Status is a structured field (RFC 9209, RFC 9651): names and error types are tokens,
   anything else is a quoted string of visible ASCII.
3. Text quoted from a request is shown, never obeyed: control characters and what is not ASCII come
   out as escapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from egress_router.net.http1.lines import TCHAR, Headers

TUNNEL_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

_SF_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")  # RFC 9651 §3.3.4
_NAME: Final = re.compile(f"{TCHAR}+")
_VALUE: Final = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
_BODILESS: Final = frozenset((204, 304))


class ProxyError(StrEnum):
    """Why the proxy itself answers: the registered types that apply here (RFC 9209 §2.3)."""

    DNS_TIMEOUT = "dns_timeout"
    DNS_ERROR = "dns_error"
    DESTINATION_NOT_FOUND = "destination_not_found"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    DESTINATION_IP_PROHIBITED = "destination_ip_prohibited"
    DESTINATION_IP_UNROUTABLE = "destination_ip_unroutable"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_TERMINATED = "connection_terminated"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_READ_TIMEOUT = "connection_read_timeout"
    CONNECTION_WRITE_TIMEOUT = "connection_write_timeout"
    CONNECTION_LIMIT_REACHED = "connection_limit_reached"
    HTTP_REQUEST_ERROR = "http_request_error"
    HTTP_REQUEST_DENIED = "http_request_denied"
    HTTP_RESPONSE_INCOMPLETE = "http_response_incomplete"
    HTTP_RESPONSE_TIMEOUT = "http_response_timeout"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    HTTP_UPGRADE_FAILED = "http_upgrade_failed"
    PROXY_INTERNAL_RESPONSE = "proxy_internal_response"
    PROXY_INTERNAL_ERROR = "proxy_internal_error"
    PROXY_LOOP_DETECTED = "proxy_loop_detected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One member of Proxy-Status: `proxy` is our pseudonym, `details` free text for people."""

    proxy: str
    error: ProxyError | None = None
    details: str = ""


def render_proxy_status(status: ProxyStatus) -> str:
    """The field's value, e.g. `router-1; error=dns_error; details="no such name"`."""
    parts = [status.proxy if _SF_TOKEN.fullmatch(status.proxy) else _sf_string(status.proxy)]
    if status.error:
        parts.append(f"error={status.error}")
    if status.details:
        parts.append(f"details={_sf_string(status.details)}")
    return "; ".join(parts)


def render_answer(  # noqa: PLR0913 - each is a field of the answer, and all are named
    status: int,
    text: str,
    proxy_status: ProxyStatus,
    *,
    close: bool,
    head_only: bool = False,
    retry_after_s: int | None = None,
    headers: Headers = (),
) -> bytes:
    """A complete answer of ours, its body `text` and a line end.

    `head_only` answers HEAD. `headers` go in as they are, e.g. `Allow` on a 405; raises ValueError
    for any that cannot stand in a head.
    """
    body = b"" if status in _BODILESS else f"{escape(text)}\n".encode("ascii")
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    if status not in _BODILESS:
        lines += ["Content-Type: text/plain; charset=us-ascii", f"Content-Length: {len(body)}"]
    lines += ["Cache-Control: no-store", f"Proxy-Status: {render_proxy_status(proxy_status)}"]
    if retry_after_s is not None:
        lines.append(f"Retry-After: {retry_after_s}")
    for name, value in headers:
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"{name!r}: {value!r} cannot stand in a head")
        lines.append(f"{name}: {value}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    return head if head_only else head + body


def escape(text: str) -> str:
    r"""The text in visible ASCII and blanks, all else as `\n`, `\x1b` or `\u20ac`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _sf_string(text: str) -> str:
    shown = escape(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
