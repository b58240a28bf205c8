"""What is told of the last reload."""

from __future__ import annotations

from typing import Any

import pytest

from egress_router.service import reload_report
from egress_router.service.metric_registry import Metrics
from egress_router.service.reload_report import ReloadReport, Result, shorten


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every event it writes."""
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        reload_report, "log_event", lambda event, **fields: found.append((event.name, fields))
    )
    return found


def metric(report: ReloadReport, name: str) -> str:
    """The lines of one metric."""
    registry = Metrics()
    report.provide(registry)
    text = registry.render("")[0].decode()
    return "\n".join(line for line in text.splitlines() if line.startswith(name))


def test_before_the_first_one() -> None:
    """There was none, which is no failure."""
    report = ReloadReport("http")
    assert report.status() == {
        "generation": 1,
        "result": "none",
        "at": None,
        "source": None,
        "changes": [],
        "problems": [],
    }
    assert metric(report, "egress_router_config_last_reload_successful").endswith(" 1.0")
    assert metric(report, "egress_router_config_last_reload_timestamp") == ""


def test_applied_then_refused_then_applied(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """A refusal shows until a sound list comes; the generation counts what was put in force."""
    report = ReloadReport("http")
    report.take_over(3)
    report.conclude(Result.APPLIED, "/list", ("a added",))
    assert report.status()["generation"] == 2
    assert report.status()["changes"] == ["a added"]
    report.conclude(Result.REFUSED, "SIGHUP", ("b added",), ("wrong",))
    status = report.status()
    assert (status["result"], status["changes"], status["problems"]) == ("refused", [], ["wrong"])
    assert metric(report, "egress_router_config_last_reload_successful").endswith(" 0.0")
    assert metric(report, "egress_router_config_connections_ended_total").endswith(" 3.0")
    assert 'result="refused"} 1.0' in metric(report, "egress_router_config_reloads_total")
    report.conclude(Result.APPLIED, "/list")
    assert metric(report, "egress_router_config_last_reload_successful").endswith(" 1.0")
    assert metric(report, "egress_router_config_generation").endswith(" 2.0")
    assert [(name, fields.get("ended")) for name, fields in lines] == [
        ("reload_applied", 3),
        ("reload_refused", None),
        ("reload_applied", 0),
    ]


def test_long_lists_are_cut() -> None:
    """The first ones, and how many more there are."""
    assert shorten(("a", "b"), 2) == ("a", "b")
    assert shorten(("a", "b", "c"), 2) == ("a", "b", "and 1 more")
