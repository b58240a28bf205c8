"""Why a request comes to nothing: the status, the words, and the error type of RFC 9209 §2.3.

Whatever a peer did wrong ends as one `FailureError`, from which the answer and the log line are
made. `verdict` is REFUSED where the client is told no, FAILED where the other side let us down.

What a message says wrong is quoted to the peer that sent it, and never in the log: a request line
or a field that cannot be read may hold credentials as well as one that can.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from egress_router.errors import EgressRouterError, RefusalError
from egress_router.modes.http.ledger import FAILED, REFUSED
from egress_router.net.dial_errors import DialCause, DialError
from egress_router.net.http1.answers import ProxyError
from egress_router.net.resolution import ResolutionCause, ResolutionError

if TYPE_CHECKING:
    from egress_router.config.http_rules import HttpRule
    from egress_router.modes.http.ledger import Verdict
    from egress_router.net.http1.errors import UpstreamProtocolError
    from egress_router.policy.rules import Decision

_RESOLUTION: dict[ResolutionCause, tuple[int, ProxyError]] = {
    ResolutionCause.NAME_NOT_FOUND: (502, ProxyError.DNS_ERROR),
    ResolutionCause.NO_ADDRESS: (502, ProxyError.DNS_ERROR),
    ResolutionCause.SERVER_FAILURE: (502, ProxyError.DNS_ERROR),
    ResolutionCause.TIMED_OUT: (504, ProxyError.DNS_TIMEOUT),
}
_DIAL: dict[DialCause, tuple[int, ProxyError]] = {
    DialCause.REFUSED: (502, ProxyError.CONNECTION_REFUSED),
    DialCause.UNREACHABLE: (502, ProxyError.DESTINATION_IP_UNROUTABLE),
    DialCause.TIMED_OUT: (504, ProxyError.CONNECTION_TIMEOUT),
    DialCause.LINK_DOWN: (502, ProxyError.DESTINATION_UNAVAILABLE),
    DialCause.NO_SOURCE: (502, ProxyError.DESTINATION_IP_UNROUTABLE),
    DialCause.EXHAUSTED: (503, ProxyError.CONNECTION_LIMIT_REACHED),
}
_REFUSAL: dict[int, ProxyError] = {
    508: ProxyError.PROXY_LOOP_DETECTED,
    503: ProxyError.CONNECTION_LIMIT_REACHED,
}
_QUOTED = re.compile("'.*'", re.DOTALL)  # greedy: a quoted text may itself hold quotes


class ExpiredError(Exception):
    """A phase of a client's connection took too long."""


class FailureError(EgressRouterError):
    """One request ends here, with an answer if none has begun."""

    def __init__(
        self,
        status: int,
        cause: ProxyError,
        reason: str,
        verdict: Verdict,
        *,
        logged: str | None = None,
    ) -> None:
        """`logged` is the reason as the log may have it, where that is not the same."""
        super().__init__(reason)
        self.status = status
        self.cause = cause
        self.reason = reason
        self.verdict = verdict
        self.logged = reason if logged is None else logged


def failure_of_refusal(error: RefusalError) -> FailureError:
    """A request that is no proper one, or that we will not serve."""
    cause = _REFUSAL.get(error.status, ProxyError.HTTP_REQUEST_ERROR)
    return FailureError(
        error.status, cause, error.reason, REFUSED, logged=without_quotes(error.reason)
    )


def failure_of_protocol(error: UpstreamProtocolError) -> FailureError:
    """An answer that is none; its reason may quote a server's fields."""
    return FailureError(
        error.status,
        ProxyError.HTTP_PROTOCOL_ERROR,
        error.reason,
        FAILED,
        logged=without_quotes(error.reason),
    )


def without_quotes(reason: str) -> str:
    """A reason without what it quotes, from the first quotation mark to the last."""
    return _QUOTED.sub("'…'", reason)


def failure_of_decision(decision: Decision) -> FailureError:
    """A request that a rule, the guard or the end of the list denies."""
    if decision.status == 403:
        guarded = decision.rule is None and "no line matches" not in decision.reason
        cause = ProxyError.DESTINATION_IP_PROHIBITED if guarded else ProxyError.HTTP_REQUEST_DENIED
        return FailureError(403, cause, decision.reason, REFUSED)
    return FailureError(decision.status, ProxyError.DNS_ERROR, decision.reason, FAILED)


def failure_of_resolution(error: ResolutionError) -> FailureError:
    """A name without an address."""
    status, cause = _RESOLUTION[error.cause]
    return FailureError(status, cause, str(error), FAILED)


def half_known(name: str, families: tuple[int, ...], rule: HttpRule) -> FailureError:
    """Addresses of these families could not be looked up, and a line may deny one of them."""
    unknown = " and ".join(f"IPv{family}" for family in families)
    reason = (
        f"the {unknown} addresses of {name} could not be looked up, "
        f"and line {rule.line} '{rule.text}' may deny one of them"
    )
    return FailureError(502, ProxyError.DNS_ERROR, reason, FAILED)


def failure_of_dial(error: DialError) -> FailureError:
    """No address could be connected to."""
    status, cause = _DIAL[error.cause]
    return FailureError(status, cause, str(error), FAILED)


def link_down(trouble: str) -> FailureError:
    """The egress link cannot carry anything; nothing was sent."""
    return FailureError(
        502, ProxyError.DESTINATION_UNAVAILABLE, f"egress link down: {trouble}", FAILED
    )


def upstream_failure(status: int, cause: ProxyError, reason: str) -> FailureError:
    """The server broke the protocol, the connection, or its promise of bytes."""
    return FailureError(status, cause, reason, FAILED)
