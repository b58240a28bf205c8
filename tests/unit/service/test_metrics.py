"""The table of metrics."""

from __future__ import annotations

import re

from egress_router.service.metrics import METRICS

OPEN_LABELS = {"address", "client", "target", "host", "name", "path"}


def test_names_follow_the_rules_of_the_field() -> None:
    """Counters end in _total and nothing else does; the unit is the last word before that."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"(egress_router|process)(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.removesuffix("_total").endswith(metric.unit)
        assert metric.help


def test_labels_are_closed_sets() -> None:
    """No label carries what a peer can choose; names of DNS mode are the configured ones."""
    for metric in METRICS:
        configured = {"name"} if metric.name.startswith("egress_router_dns_name_") else set()
        assert not OPEN_LABELS & (set(metric.labels) - configured), metric.name
