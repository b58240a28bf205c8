"""The table of checks, and what each needs to hold before it is worth a verdict of its own.

A check whose ground has gone is `not tested`, so that one broken thing gives one failure: with the
link down, the gateway's silence says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.diagnosis import inside, outside
from egress_router.diagnosis.findings import Finding, Status, untested

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.diagnosis.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; `needs` names checks that must not fail for it to mean anything."""

    name: str
    judge: Callable[[Facts], tuple[Finding, ...]]
    needs: tuple[str, ...] = ()


CHECKS = (
    Check(name="variables", judge=inside.judge_variables),
    Check(name="daemon", judge=inside.judge_daemons),
    Check(name="link", judge=inside.judge_links),
    Check(name="address", judge=inside.judge_addresses, needs=("link",)),
    Check(name="conflict", judge=inside.judge_conflict, needs=("link", "address")),
    Check(name="routes", judge=inside.judge_routes, needs=("link", "address")),
    Check(name="table", judge=inside.judge_table),
    Check(name="forwarding", judge=inside.judge_forwarding, needs=("link",)),
    Check(name="gateway", judge=outside.judge_gateways, needs=("link", "address", "routes")),
    Check(name="mtu", judge=outside.judge_sizes, needs=("link", "address", "routes", "gateway")),
    Check(name="dns", judge=outside.judge_nameservers),
    Check(name="destination", judge=outside.judge_targets, needs=("link", "address", "routes")),
)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Every check's findings, in the order of `CHECKS`."""
    failed: dict[str, str] = {}
    found: list[Finding] = []
    for check in CHECKS:
        broken = next((need for need in check.needs if need in failed), None)
        findings = (
            (untested(check.name, f"says nothing before `{broken}` holds"),)
            if broken is not None
            else check.judge(facts)
        )
        found.extend(dict.fromkeys(findings))  # both families often lack the same thing
        for finding in findings:
            if finding.status is Status.FAIL:
                failed.setdefault(check.name, finding.summary)
    return tuple(found)
