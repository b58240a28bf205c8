"""Words for `egress-router explain TARGET [--address IP]…`: what the proxy would do, and why.

1. A TARGET with `://` is read as a plain http request's URI, any other as CONNECT's HOST:PORT, by
   the parsers the proxy itself uses; what they refuse is explained as refused.
2. Without addresses a name that needs them gives NeedsAddresses: whoever asks resolves and asks
   again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.errors import EXIT_DENIED, EXIT_OK, RefusalError
from egress_router.policy.rules import Decision, NeedsAddresses, Policy
from egress_router.policy.target import Name, Target, parse_absolute_uri, parse_authority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.policy.prefixes import IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Lines to print, and the exit code: 0 allowed, 5 denied."""

    lines: tuple[str, ...]
    exit_code: int


def explain(
    policy: Policy, text: str, addresses: Sequence[IPAddress] | None = None
) -> Explanation | NeedsAddresses:
    """Why a target would be allowed or denied, given what its name resolves to."""
    try:
        target = parse_absolute_uri(text).target if "://" in text else parse_authority(text)
    except RefusalError as refusal:
        return Explanation(
            lines=(f"verdict  refused ({refusal.status}): {refusal.reason}",),
            exit_code=refusal.exit_code,
        )
    decision = policy.decide_name(target)
    if isinstance(decision, NeedsAddresses):
        if addresses is None:
            return decision
        decision = policy.decide_addresses(target, addresses)
    lines = [f"target   {target.authority}"]
    lines += _answer_lines(policy, target, addresses or ())
    return Explanation(
        lines=(*lines, *_decision_lines(decision)),
        exit_code=EXIT_OK if decision.allowed else EXIT_DENIED,
    )


def _answer_lines(policy: Policy, target: Target, addresses: Sequence[IPAddress]) -> list[str]:
    """The answer, and which of its addresses never reach the list."""
    if not isinstance(target.host, Name):
        note = "the target is an address: nothing is looked up, --address plays no part"
        return [f"note     {note}"] if addresses else []
    refusals = (policy.guard.refusal(address) for address in addresses)
    lines = [f"answer   {', '.join(map(str, addresses))}"] if addresses else []
    return lines + [f"guarded  {why.words}" for why in refusals if why is not None]


def _decision_lines(decision: Decision) -> list[str]:
    rule = decision.rule
    lines = [f"rule     line {rule.line}: {rule.text}" if rule else "rule     none"]
    verdict = "allowed" if decision.allowed else f"denied ({decision.status})"
    lines.append(f"verdict  {verdict}: {decision.reason}")
    if decision.addresses:
        lines.append(f"dials    {', '.join(map(str, decision.addresses))}")
    return lines
