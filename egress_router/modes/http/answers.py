"""Our own answers: the status, why in one plain line, and Proxy-Status (RFC 9209).

1. The text is for a person at a terminal: one line that says what was asked, and why not.
2. Whatever a client sent is quoted by whoever made the reason; here it is cut and kept to ASCII.
3. Every one of these closes the connection but for answers to a whole request whose body is read.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from egress_router.modes.http.ledger import Verdict
from egress_router.modes.http.failure import RETRY_AFTER_S, FailureError

if TYPE_CHECKING:
    from collections.abc import Iterable

PSEUDONYM: Final = "egress-router"
CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
REASON_MAX = 1000  # characters: a target is at most 8 KiB, the reason quotes 120 of it

_PHRASES = {508: "Loop Detected"} | {status.value: status.phrase for status in HTTPStatus}


def render_failure(
    failure: FailureError, *, close: bool, with_body: bool = True, extra: Iterable[str] = ()
) -> bytes:
    """The answer to a request that comes to nothing; `with_body` is False for HEAD."""
    phrase = _PHRASES.get(failure.status, "Error")
    reason = _plain(failure.reason)
    body = f"{failure.status} {phrase}: {reason}\n"
    details = reason.replace("\\", "\\\\").replace('"', '\\"')
    fields = [
        f"HTTP/1.1 {failure.status} {phrase}",
        "Content-Type: text/plain; charset=us-ascii",
        f"Content-Length: {len(body)}",
        f'Proxy-Status: {PSEUDONYM}; error={failure.cause}; details="{details}"',
        *extra,
    ]
    if failure.status == 503:
        fields.append(f"Retry-After: {RETRY_AFTER_S}")
    if close:
        fields.append("Connection: close")
    head = "\r\n".join([*fields, "", ""])
    return f"{head}{body if with_body else ''}".encode("ascii")


def _plain(text: str) -> str:
    cut = text if len(text) <= REASON_MAX else text[:REASON_MAX] + "..."
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in cut)


FULL: Final = render_failure(
    FailureError(
        503,
        "connection_limit_reached",
        "the proxy serves as many connections as it may; try again in a moment",
        Verdict.REFUSED,
    ),
    close=True,
)
