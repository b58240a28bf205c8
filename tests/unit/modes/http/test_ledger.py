"""What the ledger counts and logs of a request when it has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from egress_router.config.http_rules import parse_http_rules
from egress_router.modes.http.ledger import ALLOWED, FAILED, REFUSED, Ledger, Record
from egress_router.service.connection_log import ConnectionLog

ALLOW, DENY = parse_http_rules("*.example.com\n!203.0.113.7").rules


def end(ledger: Ledger, rule: Any, verdict: Any) -> None:
    """One request that a rule decided."""
    record = Record("10.0.0.1:1")
    ledger.begin(record)
    record.rule, record.verdict = rule, verdict
    ledger.close(record)


def test_decisions_are_counted_by_line_and_verdict() -> None:
    """Each line that decided has its counts; what no line decided is counted too."""
    ledger = Ledger(ConnectionLog(1))
    for rule, verdict in (
        (ALLOW, ALLOWED),
        (ALLOW, ALLOWED),
        (ALLOW, FAILED),
        (DENY, REFUSED),
        (None, REFUSED),
    ):
        end(ledger, rule, verdict)
    assert ledger.decisions.counts == {
        (1, "*.example.com", ALLOWED): 2,
        (1, "*.example.com", FAILED): 1,
        (2, "!203.0.113.7", REFUSED): 1,
        (0, "", REFUSED): 1,
    }


def test_another_rule_at_the_same_line_is_another_series() -> None:
    """After a reload the counts of the old rule stay what they are."""
    ledger = Ledger(ConnectionLog(1))
    end(ledger, ALLOW, ALLOWED)
    end(ledger, parse_http_rules("*.example.org").rules[0], ALLOWED)
    assert len(ledger.decisions.counts) == 2


@pytest.mark.parametrize(("every", "allowed"), [(1, 5), (3, 2), (0, 0)])
def test_refusals_and_failures_have_their_line_always(
    every: int, allowed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Off and sampled concern requests that went their way, and nothing else."""
    ledger = Ledger(ConnectionLog(every))
    for verdict in (ALLOWED, REFUSED, *(ALLOWED,) * 4, FAILED):
        end(ledger, ALLOW, verdict)
    logged = [json.loads(line)["verdict"] for line in capfd.readouterr().err.splitlines()]
    assert logged.count(ALLOWED) == allowed
    assert logged.count(REFUSED) == logged.count(FAILED) == 1
