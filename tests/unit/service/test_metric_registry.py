"""Metrics as they are scraped."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from egress_router.service import metric_registry
from egress_router.service.histogram import Histogram
from egress_router.service.metric_registry import Metrics
from egress_router.service.metrics import DIAL_SECONDS, LOOP_LAG, METRICS, READY, REPAIRS

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_every_metric_of_the_table_is_read_back(accept: str, parse: Any) -> None:
    """Each metric keeps its name, labels and value in both formats."""
    metrics = Metrics()
    for number, metric in enumerate(METRICS):
        labels = tuple(f"{label} v" for label in metric.labels)
        value: Any = number
        if metric.kind == "histogram":
            value = Histogram()
            value.note(number)
        metrics.provide(metric, lambda key=labels, value=value: {key: value})
    text, content_type = metrics.render(accept)
    assert ("openmetrics" in content_type) == bool(accept)
    samples = {s.name: s for family in parse(text.decode()) for s in family.samples}
    for number, metric in enumerate(METRICS):
        sample = samples[f"{metric.name}_sum" if metric.kind == "histogram" else metric.name]
        assert sample.value == number
        assert sample.labels == {label: f"{label} v" for label in metric.labels}


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_a_histogram_is_read_back(accept: str, parse: Any) -> None:
    """Buckets are cumulative, the last one holds all, and sum and count are told."""
    metrics, histogram = Metrics(), Histogram((0.1, 1.0))
    for value in (0.1, 0.5, 0.7, 30.0):
        histogram.note(value)
    metrics.provide(DIAL_SECONDS, lambda: {("connected",): histogram})
    families = parse(metrics.render(accept)[0].decode())
    samples = {
        (sample.name.removeprefix(DIAL_SECONDS.name), sample.labels.get("le")): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["_bucket", "0.1"] == 1
    assert samples["_bucket", "1.0"] == 3
    assert samples["_bucket", "+Inf"] == samples["_count", None] == 4
    assert samples["_sum", None] == pytest.approx(31.3)


def test_values_are_read_when_asked() -> None:
    """A scrape sees the value of its own moment; None leaves the metric out."""
    metrics = Metrics()
    values: list[float | None] = [None, 1.0, 2.0]
    metrics.provide(READY, lambda: values.pop(0))
    rendered = [metrics.render("")[0].decode() for _ in range(3)]
    assert "egress_router_ready" not in rendered[0]
    assert "egress_router_ready 1.0\n" in rendered[1]
    assert "egress_router_ready 2.0\n" in rendered[2]


def test_one_broken_source_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that raises is left out and logged once; the others are told."""
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(
        metric_registry, "log_event", lambda _event, **fields: logged.append(fields)
    )
    metrics = Metrics()

    def broken() -> float:
        raise OSError("no such link")

    metrics.provide(LOOP_LAG, broken)
    metrics.provide(REPAIRS, lambda: {("link",): 3})
    for _ in range(2):
        assert metrics.render("")[0].decode().count("egress_router_") == 3  # help, type, value
    assert logged == [
        {"metric": "egress_router_loop_lag_seconds", "error": "OSError: no such link"}
    ]


def test_a_metric_has_one_source() -> None:
    """Two sources for one metric are a mistake of ours and found at the start."""
    metrics = Metrics()
    metrics.provide(READY, lambda: 1)
    with pytest.raises(ValueError, match="egress_router_ready has a source"):
        metrics.provide(READY, lambda: 2)


def test_the_global_registry_stays_untouched() -> None:
    """Nothing of ours appears in prometheus_client's own registry."""
    Metrics().render("")
    names = {family.name for family in prometheus_client.REGISTRY.collect()}
    assert not any(name.startswith("egress_router") for name in names)
