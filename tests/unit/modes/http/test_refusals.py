"""What was refused lately: bounded, latest first, repetition in one row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from egress_router.modes.http.ledger import ALLOWED, FAILED, REFUSED, Ledger, Record
from egress_router.modes.http.refusals import ROWS_MAX, Refusals
from egress_router.service.connection_log import ConnectionLog

pytestmark = pytest.mark.interpreted


def refused(client: str, host: str, reason: str = "no line matches") -> Any:
    """A record of a refused request."""
    return SimpleNamespace(
        client=client,
        target=SimpleNamespace(authority=host),
        reason=reason,
        status=403,
        rule=None,
    )


def test_repetition_is_one_row() -> None:
    """The same client, target and reason count up, whatever the client's port; the latest leads."""
    ring = Refusals(now=lambda: 0.0)
    for client, host in (
        ("10.0.0.1:1000", "a.test:80"),
        ("10.0.0.1:1001", "b.test:80"),
        ("10.0.0.1:1002", "a.test:80"),
        ("[fd00::1]:1002", "a.test:80"),
    ):
        ring.note(refused(client, host))
    seen = [(row["client"], row["target"], row["times"]) for row in ring.table()]
    assert seen == [
        ("[fd00::1]", "a.test:80", 1),
        ("10.0.0.1", "a.test:80", 2),
        ("10.0.0.1", "b.test:80", 1),
    ]
    assert ring.table()[0]["at"] == "1970-01-01T00:00:00Z"


def test_the_oldest_go() -> None:
    """However many there are, the last fifty are kept."""
    ring = Refusals()
    for number in range(10 * ROWS_MAX):
        ring.note(refused("10.0.0.1:1", f"{number}.test:80"))
    targets = [row["target"] for row in ring.table()]
    assert targets == [f"{10 * ROWS_MAX - 1 - number}.test:80" for number in range(ROWS_MAX)]


def test_allowed_requests_never_come_by() -> None:
    """The ledger notes refusals and failures apart, and nothing of what went its way."""
    ledger = Ledger(ConnectionLog(0))
    for verdict, cause in (
        (ALLOWED, None),
        (REFUSED, "http_request_denied"),
        (FAILED, "dns_error"),
    ):
        record = Record("10.0.0.1:1")
        ledger.begin(record)
        record.verdict, record.cause, record.reason = verdict, cause, verdict
        ledger.close(record)
    assert [row["reason"] for row in ledger.denials.table()] == [REFUSED]
    assert [row["reason"] for row in ledger.failures.table()] == [FAILED]
