"""What the proxy tells of itself in /status: a few facts, its nameservers, what came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.modes.http.ledger import KINDS, VERDICTS
from egress_router.modes.http.refusals import merge_refusals
from egress_router.service.nameservers import nameserver_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress_router.modes.http.ledger import Ledger
    from egress_router.net.listen import Admission
    from egress_router.net.resolver import Resolver
    from egress_router.policy.rules import Policy

_SUMS = ("connections", "connection_limit", "up_bytes", "down_bytes")
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
        "up_bytes": int(passed["up",]),
        "down_bytes": int(passed["down",]),
        "served": [
            {
                "kind": _PLURAL[kind],
                "open": ledger.open[kind],
                **{verdict: ledger.ended[kind, verdict] for verdict in VERDICTS},
            }
            for kind in KINDS
        ],
        "nameservers": nameserver_rows(resolver.nameservers()),
        "recent_denials": ledger.denials.table(),
        "recent_failures": ledger.failures.table(),
    }


def merge_status(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of several processes as those of one proxy; what is alike is the first one's."""
    every = (own, *others)
    return {
        **own,
        **{name: sum(one[name] for one in every) for name in _SUMS},
        "served": [_sum_rows(rows) for rows in zip(*(one["served"] for one in every), strict=True)],
        **{
            name: merge_refusals([one[name] for one in every])
            for name in ("recent_denials", "recent_failures")
        },
    }


def _sum_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    counted = {name: sum(row[name] for row in rows) for name in first if name != "kind"}
    return {**first, **counted}
