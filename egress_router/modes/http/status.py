"""What the proxy tells of itself in /status: a few facts, its nameservers, what came to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.modes.http.ledger import KINDS, VERDICTS
from egress_router.service.nameservers import nameserver_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.modes.http.ledger import Ledger
    from egress_router.net.listen import Admission
    from egress_router.net.resolver import Resolver
    from egress_router.policy.rules import Policy

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
