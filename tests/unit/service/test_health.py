"""Readiness and what of it is logged."""

from __future__ import annotations

from typing import Any

import pytest

from egress_router.service import health
from egress_router.service.health import DRAINING, Readiness

Lines = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Every event that readiness logs."""
    lines: Lines = []
    monkeypatch.setattr(
        health, "log_event", lambda event, **fields: lines.append((event.name, fields))
    )
    return lines


def test_nothing_looked_at_is_not_ready(logged: Lines) -> None:
    """Without conditions, or with one nobody has looked at, a daemon is not ready, with reasons."""
    readiness = Readiness("http")
    assert not readiness.ready
    assert readiness.snapshot().reasons == ("starting: nothing was looked at yet",)
    readiness.declare("link")
    assert readiness.snapshot().reasons == ("link: not looked at yet",)
    assert logged == []


def test_changes_are_logged_once(logged: Lines) -> None:
    """Ready, not ready and each new failure are one line each; saying it again is none."""
    time = 100.0
    readiness = Readiness("http", age_s=0.5, now=lambda: time)
    readiness.declare("link")
    readiness.declare("table")
    readiness.hold("link")
    readiness.hold("table")
    readiness.hold("table")
    time = 107.0
    for _ in range(2):
        readiness.fail("link", "link macvlan0 is down")
    readiness.fail("table", "gone")
    readiness.hold("table")
    time = 109.0
    readiness.hold("link")
    assert logged == [
        ("daemon_ready", {"mode": "http", "after_s": 0.5}),
        ("daemon_not_ready", {"mode": "http", "reasons": ("link: link macvlan0 is down",)}),
        (
            "daemon_not_ready",
            {"mode": "http", "reasons": ("link: link macvlan0 is down", "table: gone")},
        ),
        ("daemon_ready", {"mode": "http", "after_s": 2.0}),
    ]


def test_snapshot_tells_since_when(logged: Lines) -> None:
    """`for_s` counts from the last change of readiness, not of its reasons."""
    time = 0.0
    readiness = Readiness("dns", now=lambda: time)
    readiness.hold("link")
    time = 4.0
    readiness.fail("link", "down")
    time = 5.0
    readiness.fail("link", "gone")
    assert readiness.snapshot().for_s == 1.0
    assert readiness.snapshot().reasons == ("link: gone",)


def test_draining_is_not_ready_whatever_holds(logged: Lines) -> None:
    """From the drain on nothing makes the daemon ready, and nothing more is logged."""
    readiness = Readiness("dns")
    readiness.hold("link")
    readiness.drain()
    readiness.fail("link", "down")
    readiness.hold("link")
    assert not readiness.ready
    assert readiness.snapshot().reasons == (DRAINING,)
    assert [name for name, _ in logged] == ["daemon_ready"]
