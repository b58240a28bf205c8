"""Why a request comes to nothing: the status, the words, and the error type of RFC 9209 §2.3.

Whatever a peer did wrong ends as one `FailureError`, from which the answer and the log line are
made. `verdict` is REFUSED where the client is told no, FAILED where the other side let us down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.errors import EgressRouterError, RefusalError
from egress_router.modes.http.ledger import Verdict
from egress_router.net.dial import DialCause, DialError
from egress_router.net.resolution import ResolutionCause, ResolutionError

if TYPE_CHECKING:
    from egress_router.policy.rules import Decision

RETRY_AFTER_S = 1  # a place is free again as soon as one connection ends

_RESOLUTION: dict[ResolutionCause, tuple[int, str]] = {
    ResolutionCause.NAME_NOT_FOUND: (502, "dns_error"),
    ResolutionCause.NO_ADDRESS: (502, "dns_error"),
    ResolutionCause.SERVER_FAILURE: (502, "dns_error"),
    ResolutionCause.TIMED_OUT: (504, "dns_timeout"),
}
_DIAL: dict[DialCause, tuple[int, str]] = {
    DialCause.REFUSED: (502, "connection_refused"),
    DialCause.UNREACHABLE: (502, "destination_ip_unroutable"),
    DialCause.TIMED_OUT: (504, "connection_timeout"),
    DialCause.LINK_DOWN: (502, "destination_unavailable"),
    DialCause.NO_SOURCE: (502, "destination_ip_unroutable"),
    DialCause.EXHAUSTED: (503, "connection_limit_reached"),
}
_REFUSAL: dict[int, str] = {508: "proxy_loop_detected", 503: "connection_limit_reached"}


class FailureError(EgressRouterError):
    """One request ends here, with an answer if none has begun."""

    def __init__(self, status: int, cause: str, reason: str, verdict: Verdict) -> None:
        super().__init__(reason)
        self.status = status
        self.cause = cause
        self.reason = reason
        self.verdict = verdict


def failure_of_refusal(error: RefusalError) -> FailureError:
    """A request that is no proper one, or that we will not serve."""
    cause = _REFUSAL.get(error.status, "http_request_error")
    return FailureError(error.status, cause, error.reason, Verdict.REFUSED)


def failure_of_decision(decision: Decision) -> FailureError:
    """A request that a rule, the guard or the end of the list denies."""
    if decision.status == 403:
        guarded = decision.rule is None and "no line matches" not in decision.reason
        cause = "destination_ip_prohibited" if guarded else "http_request_denied"
        return FailureError(403, cause, decision.reason, Verdict.REFUSED)
    return FailureError(decision.status, "dns_error", decision.reason, Verdict.FAILED)


def failure_of_resolution(error: ResolutionError) -> FailureError:
    """A name without an address."""
    status, cause = _RESOLUTION[error.cause]
    return FailureError(status, cause, str(error), Verdict.FAILED)


def failure_of_dial(error: DialError) -> FailureError:
    """No address could be connected to."""
    status, cause = _DIAL[error.cause]
    return FailureError(status, cause, str(error), Verdict.FAILED)


def link_down(trouble: str) -> FailureError:
    """The egress link cannot carry anything; nothing was sent."""
    return FailureError(
        502, "destination_unavailable", f"egress link down: {trouble}", Verdict.FAILED
    )


def upstream_failure(status: int, cause: str, reason: str) -> FailureError:
    """The server broke the protocol, the connection, or its promise of bytes."""
    return FailureError(status, cause, reason, Verdict.FAILED)
