"""Our own answers to clients, made of a failure (rendered by `net.http1.answers`)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from egress_router.modes.http.failure import FailureError
from egress_router.modes.http.ledger import REFUSED
from egress_router.net.http1.answers import ProxyError, ProxyStatus, render_answer

if TYPE_CHECKING:
    from egress_router.net.http1.lines import Headers

PROXY: Final = "egress-router"
# In Via. Differs from process to process: two routers in a row are no loop (RFC 9110 §7.6.3).
PSEUDONYM: Final = f"{PROXY}-{secrets.token_hex(4)}"
RETRY_AFTER_S = 1  # a place is free again as soon as one connection ends
REASON_MAX = 1000  # characters; a reason quotes at most 120 of what the client sent

_ALLOWED: Headers = (("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),)


def render_failure(failure: FailureError, *, close: bool, head_only: bool = False) -> bytes:
    """The answer to a request that comes to nothing; `head_only` for HEAD."""
    reason = failure.reason[:REASON_MAX].replace("§", "section ")  # an answer is ASCII
    return render_answer(
        failure.status,
        f"{PROXY}: {reason}",
        ProxyStatus(proxy=PROXY, error=failure.cause, details=reason),
        close=close,
        head_only=head_only,
        retry_after_s=RETRY_AFTER_S if failure.status == 503 else None,
        headers=_ALLOWED if failure.status == 405 else (),
    )


def render_options(*, close: bool) -> bytes:
    """Our answer to OPTIONS that goes no further (Max-Forwards: 0)."""
    status = ProxyStatus(proxy=PROXY)
    return render_answer(200, f"{PROXY} forwards http", status, close=close, headers=_ALLOWED)


FULL: Final = render_failure(
    FailureError(
        503,
        ProxyError.CONNECTION_LIMIT_REACHED,
        "the proxy serves as many connections as it may; try again in a moment",
        REFUSED,
    ),
    close=True,
)
