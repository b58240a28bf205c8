"""What the proxy tells of itself in /status: a few facts, and what came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.modes.http.ledger import KINDS, VERDICTS
from egress_router.modes.http.refusals import merge_refusals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress_router.modes.http.ledger import Decided, Ledger
    from egress_router.net.listen import Admission
    from egress_router.policy.rules import Policy

_SUMS = ("connections", "connection_limit", "from_clients_bytes", "to_clients_bytes")
NO_RULE = "none decided"
_PLURAL = {"request": "requests", "tunnel": "tunnels"}


def proxy_status(
    *,
    ledger: Ledger,
    admission: Admission,
    policy: Policy,
    passed: Mapping[tuple[str, ...], float],
) -> dict[str, Any]:
    """The mode's part of /status; `passed`: bytes by direction, as the metric has them."""
    return {
        "rules": len(policy.rules),
        "connections": admission.active,
        "connection_limit": admission.limit,
        "from_clients_bytes": int(passed["up",]),
        "to_clients_bytes": int(passed["down",]),
        "served": [
            {
                "kind": _PLURAL[kind],
                "open": ledger.open[kind],
                **{verdict: ledger.ended[kind, verdict] for verdict in VERDICTS},
            }
            for kind in KINDS
        ],
        "by_rule": _by_rule(ledger),
        "recent_denials": ledger.denials.table(),
        "recent_failures": ledger.failures.table(),
    }


def _by_rule(ledger: Ledger) -> list[dict[str, Any]]:
    """What each line of the list has decided, in their order; without a line: what none matched."""
    rows: dict[tuple[int | str, str], dict[str, Any]] = {}
    for (line, text, verdict), count in sorted(ledger.decisions.counts.items(), key=_line):
        start: dict[str, Any] = {"line": line or None, "rule": text or NO_RULE}
        rows.setdefault((line, text), start | dict.fromkeys(VERDICTS, 0))[verdict] = count
    return list(rows.values())


def _line(item: tuple[Decided, int]) -> tuple[bool, int, str]:
    """Numbered lines first; what has no line, and the rest that is not told apart, last."""
    line, text, _ = item[0]
    return _place(line, text)


def _place(line: int | str | None, text: str) -> tuple[bool, int, str]:
    return (not isinstance(line, int) or not line, line if isinstance(line, int) else 0, text)


def merge_status(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of several processes as those of one proxy; what is alike is the first one's."""
    every = (own, *others)
    by_rule = _sum_rows([row for one in every for row in one["by_rule"]], "line", "rule")
    return {
        **own,
        **{name: sum(one[name] for one in every) for name in _SUMS},
        "served": _sum_rows([row for one in every for row in one["served"]], "kind"),
        "by_rule": sorted(by_rule, key=lambda row: _place(row["line"], str(row["rule"]))),
        **{
            name: merge_refusals([one[name] for one in every])
            for name in ("recent_denials", "recent_failures")
        },
    }


def _sum_rows(rows: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """One row for those alike in these names, the rest added up."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        total = sums.setdefault(tuple(row[name] for name in names), {n: row[n] for n in names})
        for name in row.keys() - set(names):
            total[name] = total.get(name, 0) + row[name]
    first = list(rows[0]) if rows else []
    return [{name: total[name] for name in first} for total in sums.values()]
