"""What the proxy tells of itself in /status: a few facts, its nameservers, what came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.modes.http.ledger import KINDS, VERDICTS
from egress_router.service.nameservers import nameserver_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.modes.http.ledger import Decided, Ledger
    from egress_router.net.listen import Admission
    from egress_router.net.resolver import Resolver
    from egress_router.policy.rules import Policy

NO_RULE = "none decided"
_PLURAL = {"request": "requests", "tunnel": "tunnels"}


def proxy_status(
    *,
    ledger: Ledger,
    admission: Admission,
    resolver: Resolver,
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
        "nameservers": nameserver_rows(resolver.nameservers()),
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
    return (not isinstance(line, int) or not line, line if isinstance(line, int) else 0, text)
