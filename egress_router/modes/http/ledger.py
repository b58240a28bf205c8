"""What became of each request and tunnel: one log line at its end, and the counts for metrics.

A line never holds credentials, a path or a query: the target is host and port alone.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from egress_router.modes.http.refusals import Refusals
from egress_router.service import events
from egress_router.service.connection_log import ConnectionLog
from egress_router.service.log_lines import seconds_since
from egress_router.service.logs import log_late
from egress_router.service.series import OTHER, Counts

if TYPE_CHECKING:
    from egress_router.config.http_rules import HttpRule
    from egress_router.modes.http.failure import FailureError
    from egress_router.policy.prefixes import IPAddress
    from egress_router.policy.target import Target
    from egress_router.service.events import Event


# Plain text, not enumerations: a member's hash is computed in Python, and each request needs some.
Kind: TypeAlias = Literal["request", "tunnel"]
REQUEST: Final = "request"
TUNNEL: Final = "tunnel"
KINDS: Final[tuple[Kind, ...]] = (REQUEST, TUNNEL)

Verdict: TypeAlias = Literal["allowed", "refused", "failed"]
ALLOWED: Final = "allowed"  # by a rule, and it went its way
REFUSED: Final = "refused"  # by a rule or the guard, or because it is no proper request
FAILED: Final = "failed"  # allowed, and the other side let us down
VERDICTS: Final[tuple[Verdict, ...]] = (ALLOWED, REFUSED, FAILED)

_EVENTS: Final[dict[Verdict, Event]] = {
    ALLOWED: events.HTTP_ALLOWED,
    REFUSED: events.HTTP_REFUSED,
    FAILED: events.HTTP_FAILED,
}
# A rule's line and text, and the verdict; line 0: no rule decided.
Decided: TypeAlias = tuple[int | str, str, str]

_monotonic: Final = time.monotonic


class Record:
    """One request or tunnel, from its first byte to its line."""

    __slots__ = (
        "address",
        "answered",
        "bytes_down",
        "bytes_up",
        "cause",
        "client",
        "kind",
        "method",
        "note",
        "number",
        "reason",
        "revoked",
        "rule",
        "started",
        "status",
        "target",
        "verdict",
    )

    def __init__(self, client: str) -> None:
        self.number = 0
        self.client = client
        self.started = _monotonic()
        self.kind: Kind = REQUEST
        self.method: str | None = None
        self.target: Target | None = None
        self.address: IPAddress | None = None
        self.verdict: Verdict = ALLOWED
        self.reason = ""
        self.rule: HttpRule | None = None
        self.status: int | None = None
        self.answered = False  # the client has got part of a final answer
        self.bytes_up = 0
        self.bytes_down = 0
        self.cause: str | None = None
        self.note: str | None = None
        self.revoked = ""  # why a tunnel was cut that had been allowed

    def note_failure(self, failure: FailureError) -> None:
        """Why it came to nothing; a status that the client has seen already stays."""
        self.verdict, self.reason, self.cause = failure.verdict, failure.logged, failure.cause
        if not self.answered:
            self.status = failure.status

    def restart(self) -> None:
        """Counts the time from now on: the connection has only waited so far."""
        self.started = _monotonic()


class Ledger:
    """The counts of one process; `close` writes a record's line.

    `id_prefix` makes the ids of its lines the daemon's own.
    """

    def __init__(self, log: ConnectionLog | None = None, id_prefix: str = "") -> None:
        self._log = log or ConnectionLog(1)
        self._id_prefix = id_prefix
        self.ended: dict[tuple[str, ...], int] = {
            (kind, verdict): 0 for kind in KINDS for verdict in VERDICTS
        }
        self.causes: dict[tuple[str, ...], int] = {}
        self.decisions: Counts[Decided] = Counts((OTHER, OTHER, OTHER))
        self.bytes_up = 0
        self.bytes_down = 0
        self.open: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.denials = Refusals()
        self.failures = Refusals()

    def begin(self, record: Record) -> None:
        """A request's head is there, or is known not to be one."""
        record.number = self._log.next_number()
        self.open[record.kind] += 1

    def become(self, record: Record, kind: Kind) -> None:
        """A request has become a tunnel."""
        self.open[record.kind] -= 1
        record.kind = kind
        self.open[kind] += 1

    def close(self, record: Record) -> None:
        """It has ended: counts it and writes its line."""
        verdict = record.verdict
        self.open[record.kind] -= 1
        self.ended[record.kind, verdict] += 1
        self.bytes_up += record.bytes_up
        self.bytes_down += record.bytes_down
        if record.cause is not None:
            self.causes[(record.cause,)] = self.causes.get((record.cause,), 0) + 1
            (self.denials if record.verdict is REFUSED else self.failures).note(record)
        rule = record.rule
        # Line and text: after a reload another rule may stand at the line.
        self.decisions.add((rule.line, rule.text, verdict) if rule else (0, "", verdict))
        if verdict is ALLOWED and not self._log.takes():
            return
        seconds = seconds_since(record.started)
        log_late(_EVENTS[verdict], _fields, record, self._id_prefix, seconds)


def _fields(record: Record, id_prefix: str, seconds: float) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": id_prefix + format(record.number, "x"),
        "client": record.client,
        "kind": record.kind,
        "method": record.method,
        "target": record.target.authority if record.target else None,
        "address": None if record.address is None else text_of(record.address),
        "verdict": record.verdict,
        "reason": record.reason,
        "rule": record.rule.line if record.rule else None,
        "status": record.status,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "seconds": seconds,
    }
    if record.note:
        fields["note"] = record.note
    return fields


@lru_cache(maxsize=4096)
def text_of(address: IPAddress) -> str:
    """An address in words; remembered, for writing one out costs as much as the rest of a line."""
    return str(address)
