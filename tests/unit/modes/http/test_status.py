"""What the proxy tells of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from egress_router.modes.http.ledger import ALLOWED, FAILED, REFUSED, Ledger
from egress_router.modes.http.refusals import merge_refusals
from egress_router.modes.http.status import merge_status, proxy_status
from egress_router.service.connection_log import ConnectionLog
from egress_router.service.series import OTHER


def document(ledger: Ledger) -> dict[str, Any]:
    """The mode's part of /status."""
    return proxy_status(
        ledger=ledger,
        admission=SimpleNamespace(active=3, limit=100),  # type: ignore[arg-type]
        policy=SimpleNamespace(rules=(1, 2)),  # type: ignore[arg-type]
        passed={("up",): 10.0, ("down",): 20.0},
    )


def test_what_each_line_decided() -> None:
    """One row for each line, in the list's order; what no line matched, and the rest, last."""
    ledger = Ledger(ConnectionLog(0))
    for line, text, verdict in (
        (0, "", REFUSED),
        (2, "*.b.test", ALLOWED),
        (1, "!a.test", REFUSED),
        (2, "*.b.test", FAILED),
        (2, "*.b.test", ALLOWED),
        (OTHER, OTHER, OTHER),
    ):
        ledger.decisions.add((line, text, verdict))
    rows = document(ledger)["by_rule"]
    assert [(row["line"], row["rule"]) for row in rows] == [
        (1, "!a.test"),
        (2, "*.b.test"),
        (None, "none decided"),
        (OTHER, OTHER),
    ]
    assert (rows[1][ALLOWED], rows[1][REFUSED], rows[1][FAILED]) == (2, 0, 1)


def test_the_rest() -> None:
    """Counts and limits stand as they are."""
    told = document(Ledger(ConnectionLog(0)))
    assert (told["rules"], told["connections"], told["connection_limit"]) == (2, 3, 100)
    assert (told["from_clients_bytes"], told["to_clients_bytes"]) == (10, 20)
    assert [row["kind"] for row in told["served"]] == ["requests", "tunnels"]


def test_several_processes_are_told_as_one() -> None:
    """What they count is added up, line by line; what is alike is told once."""
    first, second = Ledger(ConnectionLog(1)), Ledger(ConnectionLog(1), "1-")
    first.decisions.add((2, "b.test", ALLOWED))
    for line, text in ((2, "b.test"), (1, "a.test"), (0, "")):
        second.decisions.add((line, text, ALLOWED))
    second.open["tunnel"] = 5
    told = merge_status(document(first), [document(second)])
    assert (told["rules"], told["connections"], told["connection_limit"]) == (2, 6, 200)
    assert (told["from_clients_bytes"], told["to_clients_bytes"]) == (20, 40)
    assert [(row["kind"], row["open"]) for row in told["served"]] == [
        ("requests", 0),
        ("tunnels", 5),
    ]
    assert [(row["line"], row[ALLOWED]) for row in told["by_rule"]] == [(1, 1), (2, 2), (None, 1)]
    assert list(told["by_rule"][0]) == list(document(second)["by_rule"][0])


def test_refusals_of_several_processes() -> None:
    """Alike ones are one row with their number and the last time; the latest stands first."""
    row = {"client": "10.0.0.1", "target": "a:1", "status": 403, "line": 1, "reason": "denied"}
    own = [{"at": "2026-01-01T00:00:03Z", "times": 2, **row}]
    its = [
        {"at": "2026-01-01T00:00:04Z", "times": 1, **row, "target": "b:1"},
        {"at": "2026-01-01T00:00:01Z", "times": 3, **row},
    ]
    merged = merge_refusals([own, its])
    assert [(one["target"], one["times"], one["at"][-3:-1]) for one in merged] == [
        ("b:1", 1, "04"),
        ("a:1", 5, "03"),
    ]
