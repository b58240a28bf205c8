"""What was refused or failed lately, for /status: bounded, and one row for what repeats itself.

1. An allowed request never comes by here.
2. Rows are told apart by client, target and reason; a client's port is left out, for it changes.
   Who floods the proxy with one mistake fills one row; who floods it with many fills the ring.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from egress_router.modes.http.ledger import Record

ROWS_MAX: Final = 50  # what a person reads; a target is at most a request line long


class Refusals:
    """The last `ROWS_MAX` different refusals, or failures."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._rows: dict[tuple[str, str | None, str], _Row] = {}

    def note(self, record: Record) -> None:
        """Takes up one that came to nothing."""
        client = record.client.rpartition(":")[0] or record.client
        key = (client, record.target.authority if record.target else None, record.reason)
        row = self._rows.pop(key, None)
        if row is None:
            row = _Row()
            if len(self._rows) >= ROWS_MAX:
                del self._rows[next(iter(self._rows))]
        self._rows[key] = row
        row.count += 1
        row.last_at = self._now()
        row.status = record.status
        row.rule = record.rule.line if record.rule else None

    def table(self) -> list[dict[str, Any]]:
        """The rows as /status tells them, the latest first."""
        return [
            {
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.last_at)),
                "times": row.count,
                "client": client,
                "target": target,
                "status": row.status,
                "line": row.rule,
                "reason": reason,
            }
            for (client, target, reason), row in reversed(self._rows.items())
        ]


class _Row:
    __slots__ = ("count", "last_at", "rule", "status")

    def __init__(self) -> None:
        self.count = 0
        self.last_at = 0.0
        self.status: int | None = None
        self.rule: int | None = None


def merge_refusals(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several processes as one table: what is alike added up, the latest first."""
    merged: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in sorted(itertools.chain(*tables), key=lambda row: str(row["at"])):
        key = tuple(row[name] for name in ("client", "target", "reason"))
        before = merged.pop(key, None)
        merged[key] = {**row, "times": row["times"] + (before["times"] if before else 0)}
    return list(reversed(merged.values()))[:ROWS_MAX]
