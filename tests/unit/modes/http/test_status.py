"""What the proxy tells of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from egress_router.modes.http.ledger import ALLOWED, FAILED, REFUSED, Ledger
from egress_router.modes.http.status import proxy_status
from egress_router.service.series import OTHER


def document(ledger: Ledger) -> dict[str, Any]:
    """The mode's part of /status."""
    return proxy_status(
        ledger=ledger,
        admission=SimpleNamespace(active=3, limit=100),  # type: ignore[arg-type]
        resolver=SimpleNamespace(nameservers=lambda: ()),  # type: ignore[arg-type]
        policy=SimpleNamespace(rules=(1, 2)),  # type: ignore[arg-type]
        passed={("up",): 10.0, ("down",): 20.0},
    )


def test_what_each_line_decided() -> None:
    """One row for each line, in the list's order; what no line matched, and the rest, last."""
    ledger = Ledger()
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
    told = document(Ledger())
    assert (told["rules"], told["connections"], told["connection_limit"]) == (2, 3, 100)
    assert (told["from_clients_bytes"], told["to_clients_bytes"]) == (10, 20)
    assert [row["kind"] for row in told["served"]] == ["requests", "tunnels"]
