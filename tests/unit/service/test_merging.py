"""What several processes have counted, as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.service.histogram import Histogram
from egress_router.service.merging import decode_values, encode_values, merge_values
from egress_router.service.metric_registry import Metrics
from egress_router.service.metrics import (
    DIAL_SECONDS,
    HTTP_DECISIONS,
    HTTP_REQUESTS,
    LOOP_LAG,
    METRICS,
    READY,
    RESIDENT_MEMORY,
    Metric,
)

LABELS = st.tuples(st.sampled_from(["request", "tunnel"]), st.sampled_from(["allowed", "refused"]))
SERIES = st.dictionaries(LABELS, st.integers(0, 2**60))


def histogram(*values: float) -> Histogram:
    """One that has counted these."""
    made = Histogram()
    for value in values:
        made.note(value)
    return made


@pytest.mark.parametrize(
    ("metric", "values", "merged"),
    [
        (RESIDENT_MEMORY, [1, 2, 3], 6),
        (LOOP_LAG, [0.1, 0.5, 0.2], 0.5),
        (
            HTTP_REQUESTS,
            [{("a", "b"): 1}, {("a", "b"): 2, ("c", "d"): 4}],
            {("a", "b"): 3, ("c", "d"): 4},
        ),
        (HTTP_REQUESTS, [{}, {}], {}),
    ],
)
def test_values_are_merged_as_the_table_says(metric: Metric, values: Any, merged: Any) -> None:
    """Sums and the largest; a combination of labels that one has is told."""
    assert merge_values(metric, values) == merged


def test_histograms_are_added_bucket_by_bucket() -> None:
    """As if one had counted everything; those that were merged stay as they are."""
    first, second = histogram(0.002, 3.0), histogram(0.002, 99.0)
    merged = merge_values(DIAL_SECONDS, [{("connected",): first}, {("connected",): second}])
    assert isinstance(merged, dict)
    assert merged["connected",].buckets() == histogram(0.002, 3.0, 0.002, 99.0).buckets()
    assert merged["connected",].total == pytest.approx(102.004)
    assert first.buckets() == histogram(0.002, 3.0).buckets()


@given(st.lists(SERIES, min_size=1, max_size=5))
def test_nothing_is_lost_on_the_way(series: list[dict[tuple[str, str], int]]) -> None:
    """Whatever the processes have, and however many: the sum of all is the sum of what is told."""
    travelled = [decode_values(json.loads(json.dumps(encode_values(one)))) for one in series]
    assert travelled == series
    merged = merge_values(HTTP_REQUESTS, travelled)
    assert isinstance(merged, dict)
    assert sum(merged.values()) == sum(sum(one.values()) for one in series)


def test_histograms_travel() -> None:
    """As JSON, and back."""
    before = {("failed",): histogram(0.5)}
    after: Any = decode_values(json.loads(json.dumps(encode_values(before))))
    assert after["failed",].buckets() == before["failed",].buckets()
    assert after["failed",].total == before["failed",].total


def test_every_metric_is_marked_on_purpose() -> None:
    """What a process counts by itself is merged; what all see alike is told once."""
    once = (
        "build_info",
        "ready",
        "condition",
        "config_",
        "link_",
        "gateway_",
        "conntrack_",
        "nat_",
    )
    once += ("dropped_packets", "redirect_", "repairs", "address_conflicts", "start_time")
    once += ("dns_name_", "dns_port_open", "dns_partner_up", "dns_kernel_")
    for metric in METRICS:
        name = metric.name.removeprefix("egress_router_").removeprefix("process_")
        assert (metric.merged == "first") == name.startswith(once), metric.name


def test_a_scrape_tells_the_sum_of_all_processes() -> None:
    """Those that are told once are the first process' alone; the rest is what all have."""
    first, other = Metrics(), Metrics()
    for registry, count, ready in ((first, 3, 1), (other, 4, 0)):
        registry.provide(HTTP_DECISIONS, lambda count=count: {("1", "*", "allowed"): count})
        registry.provide(DIAL_SECONDS, lambda count=count: {("connected",): histogram(count)})
        registry.provide(READY, lambda ready=ready: ready)
    exported = json.loads(json.dumps(other.export()))
    assert READY.name not in exported
    first.join(lambda metric: [decode_values(exported[metric.name])])
    text = first.render("")[0].decode()
    assert 'decisions_total{line="1",rule="*",verdict="allowed"} 7.0' in text
    assert 'dial_seconds_count{outcome="connected"} 2.0' in text
    assert "egress_router_ready 1.0" in text
