"""What several processes of a daemon have counted becomes what the daemon tells (pure).

1. The table of metrics says how each one is merged; what is not, the first process tells.
2. Values travel between processes as JSON: numbers, lists and text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from egress_router.service.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.service.metric_registry import Value, Values
    from egress_router.service.metrics import Metric


def merge_values(metric: Metric, values: Sequence[Values]) -> Values:
    """One value of several processes' values, or one for each combination of labels."""
    if not any(isinstance(one, Mapping) for one in values):
        return _merge(metric, values)  # type: ignore[arg-type]  # none of them is a mapping
    series: dict[tuple[str, ...], list[Value]] = {}
    for one in values:
        for labels, value in one.items() if isinstance(one, Mapping) else [((), one)]:
            series.setdefault(labels, []).append(value)
    return {labels: _merge(metric, parts) for labels, parts in series.items()}


def encode_values(values: Values) -> Any:
    """What JSON can carry."""
    if isinstance(values, Mapping):
        return [[list(labels), _encode(value)] for labels, value in values.items()]
    return _encode(values)


def decode_values(data: Any) -> Values:
    """What `encode_values` was given."""
    if isinstance(data, list):
        return {tuple(labels): _decode(value) for labels, value in data}
    return _decode(data)


def _merge(metric: Metric, values: Sequence[Value]) -> Value:
    histograms = [value for value in values if isinstance(value, Histogram)]
    if histograms:
        total = Histogram(histograms[0].bounds)
        for one in histograms:
            total.add(one)
        return total
    numbers = [value for value in values if not isinstance(value, Histogram)]
    return max(numbers) if metric.merged == "max" else sum(numbers)


def _encode(value: Value) -> Any:
    if isinstance(value, Histogram):
        return {"bounds": value.bounds, "counts": value.counts, "total": value.total}
    return value


def _decode(data: Any) -> Value:
    if not isinstance(data, dict):
        return float(data) if isinstance(data, float) else int(data)
    histogram = Histogram(tuple(data["bounds"]))
    histogram.counts = list(data["counts"])
    histogram.total = data["total"]
    return histogram
