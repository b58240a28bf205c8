"""Dashboard and alerts speak of metrics that exist, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from egress_router.service.events import EVENTS
from egress_router.service.metrics import METRICS
from model.manifests import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

MONITORING = DEPLOY / "monitoring"
ALERTS = MONITORING / "alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    *((name, rule["expr"]) for name, rule in RULES.items()),
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
]
TARGET_LABELS = {"instance", "job"}  # the scrape's own
# A metric's name and what stands in braces behind it, if anything.
SELECTOR = re.compile(r"\b((?:egress_router|process)_[a-z_]+)(?:{([^}]*)})?")
KNOWN = {metric.name: set(metric.labels) for metric in METRICS if metric.kind != "histogram"} | {
    f"{metric.name}_{part}": {*metric.labels, *(("le",) if part == "bucket" else ())}
    for metric in METRICS
    if metric.kind == "histogram"
    for part in ("bucket", "sum", "count")
}


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_metric_and_label_exists(title: str, expression: str) -> None:
    """No expression names a metric or asks for a label that the table does not have."""
    found = SELECTOR.findall(expression)
    assert found
    for name, matchers in found:
        assert name in KNOWN, f"{title}: {name}"
        asked = set(re.findall(r'([a-z_]+)(?:=~|!~|!=|=)"', matchers))
        assert asked <= KNOWN[name] | TARGET_LABELS, f"{title}: {name}"


def test_legends_name_labels_that_are_there() -> None:
    """What a legend shows is a label of its expression's metrics."""
    for panel in PANELS:
        for target in panel["targets"]:
            names = {name for name, _ in SELECTOR.findall(target["expr"])}
            labels = set().union(*(KNOWN[name] for name in names)) | TARGET_LABELS
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]


def test_annotations_name_labels_and_events_that_are_there() -> None:
    """An alert's text shows labels that its series have, and names events that are logged."""
    events = {event.name for event in EVENTS}
    for name, rule in RULES.items():
        text = " ".join(rule["annotations"].values())
        metrics = {metric for metric, _ in SELECTOR.findall(rule["expr"])}
        labels = set().union(*(KNOWN[metric] for metric in metrics)) | TARGET_LABELS
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, name
        named = re.findall(r"The log \((\w+)\)", text)
        assert set(named) <= events, name
        assert {"summary", "description"} <= rule["annotations"].keys()


def test_the_dashboard_can_be_imported() -> None:
    """Ids are unique, panels do not overlap, each is described, and none names a server."""
    panels = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert all(a < b for a, b in pairwise(letters))


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """One input series, a value a minute: `0+1x30`, `1x30`."""
    listed = ",".join(f'{key}="{value}"' for key, value in {"instance": "a", **labels}.items())
    return {"series": f"egress_router_{name}{{{listed}}}", "values": values}


def gauge(name: str, bad: str, fine: str, **labels: str) -> tuple[Any, Any]:
    """A gauge that is bad, and one that is fine, for half an hour."""
    return [series(name, f"{bad}x90", **labels)], [series(name, f"{fine}x90", **labels)]


CALM_THEN_RISE = "0+6x60 400+600x30"  # one refusal in ten seconds, then ten a second
# For each alert: series at which it has to fire an hour and a quarter on, and not to.
CASES: dict[str, tuple[Any, Any]] = {
    "EgressRouterNotReady": gauge("ready", "0", "1"),
    "EgressRouterReloadFailed": gauge("config_last_reload_successful", "0", "1"),
    "EgressRouterAddressConflict": (
        [series("address_conflicts_total", "0x70 1x20")],
        [series("address_conflicts_total", "3x90")],
    ),
    "EgressRouterLinkDown": gauge("link_up", "0", "1"),
    "EgressRouterGatewaySilent": gauge("gateway_state", "1", "0", state="failed", gateway="g"),
    "EgressRouterConntrackNearlyFull": (
        [series("conntrack_entries", "900x90"), series("conntrack_limit", "1000x90")],
        [series("conntrack_entries", "700x90"), series("conntrack_limit", "1000x90")],
    ),
    "EgressRouterConntrackDrops": (
        [series("dropped_packets_total", "0+1x90", reason="conntrack_full")],
        [
            series("dropped_packets_total", "5x90", reason="conntrack_full"),
            series("dropped_packets_total", "0+900x90", reason="input"),
        ],
    ),
    "EgressRouterWithheld": (
        [series("dropped_packets_total", "0+600x90", reason="source")],
        [
            series("dropped_packets_total", "0+6x90", reason="source"),
            series("dropped_packets_total", "0+900x90", reason="input"),
        ],
    ),
    "EgressRouterDenialsSpike": (
        [
            series("http_requests_total", CALM_THEN_RISE, kind="request", verdict="refused"),
            series("http_requests_total", CALM_THEN_RISE, kind="tunnel", verdict="refused"),
        ],
        [
            series("http_requests_total", "0+600x90", kind="request", verdict="refused"),
            series("http_requests_total", CALM_THEN_RISE, kind="tunnel", verdict="allowed"),
        ],
    ),
    "EgressRouterResolutionStale": gauge(
        "dns_name_state", "1", "0", state="stale", destination="www.example.com"
    ),
    "EgressRouterPortClosed": gauge("dns_port_open", "0", "1", port="80"),
    "EgressRouterShedding": (
        [series("http_shed_total", "0+1x90", reason="full")],
        [series("http_shed_total", "9x90", reason="full")],
    ),
    "EgressRouterDescriptorsNearlyUsed": (
        [
            {"series": 'process_open_fds{instance="a"}', "values": "900x90"},
            {"series": 'process_max_fds{instance="a"}', "values": "1000x90"},
            series("build_info", "1x90", mode="http"),
        ],
        [  # not one of ours
            {"series": 'process_open_fds{instance="b"}', "values": "900x90"},
            {"series": 'process_max_fds{instance="b"}', "values": "1000x90"},
            series("build_info", "1x90", mode="http"),
        ],
    ),
    "EgressRouterLoopBlocked": gauge("loop_lag_seconds", "0.9", "0.1"),
    "EgressRouterConnectionLogLossy": (
        [series("connection_records_total", "0+1x90", outcome="lost")],
        [series("connection_records_total", "0+99x90", outcome="left_out")],
    ),
}


def test_each_alert_has_its_case() -> None:
    """No alert is untested."""
    assert CASES.keys() == RULES.keys()


def test_alerts_fire_and_stay_silent(tmp_path: Path) -> None:
    """Each alert fires at its cause and not without; Prometheus' own tool says so."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing (Debian package prometheus)")
    tests = [
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                    "eval_time": "75m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for name, cases in CASES.items()
        for given, fires in zip(cases, (True, False), strict=True)
    ]
    path = tmp_path / "cases.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": tests}))
    done = subprocess.run(
        ("promtool", "test", "rules", str(path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
