"""The registry that reads the metrics of `metrics.METRICS` when somebody asks.

1. Values come from callables at scrape time; nothing is updated in the background.
2. The registry is our own: prometheus_client's global one stays untouched. The library is imported
   at the first scrape, in a thread, because a daemon that nobody scrapes need not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from egress_router.service.events import METRIC_FAILED
from egress_router.service.histogram import Histogram
from egress_router.service.logs import log_event
from egress_router.service.merging import encode_values, merge_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from prometheus_client.core import Metric as Family

    from egress_router.service.metrics import Metric

    # A number, or one for each combination of label values in the order of the metric's labels:
    # `{("in",): 12, ("out",): 7}`. Histograms for a metric of that kind. None: nothing to tell now.
    Value: TypeAlias = float | Histogram
    Values: TypeAlias = Value | Mapping[tuple[str, ...], Value]


class Metrics:
    """The metrics of one daemon: which of the table it has, and how each is read."""

    def __init__(self) -> None:
        self._sources: dict[Metric, Callable[[], Values | None]] = {}
        self._reported: set[str] = set()
        self._others: Callable[[Metric], Sequence[Values]] = lambda _metric: ()

    def provide(self, metric: Metric, source: Callable[[], Values | None]) -> None:
        """Says how a metric is read; the callable must not block."""
        if metric in self._sources:
            raise ValueError(f"metric {metric.name} has a source already")
        self._sources[metric] = source

    def join(self, others: Callable[[Metric], Sequence[Values]]) -> None:
        """Says what the daemon's other processes have counted; asked for at each scrape."""
        self._others = others

    def collect(self) -> Iterator[Family]:
        """Reads every metric; prometheus_client calls this at each scrape."""
        for metric, values in self._read():
            others = self._others(metric) if metric.merged != "first" else ()
            yield _family(metric, merge_values(metric, (values, *others)) if others else values)

    def export(self) -> dict[str, Any]:
        """What another process of the daemon merges with its own, by name, as JSON can carry it."""
        return {
            metric.name: encode_values(values)
            for metric, values in self._read()
            if metric.merged != "first"
        }

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text and its content type: OpenMetrics if `accept` asks for it."""
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - rule 2 above
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _read(self) -> Iterator[tuple[Metric, Values]]:
        for metric, source in self._sources.items():
            try:
                values = source()
            except Exception as error:  # noqa: BLE001 - one metric's failure must not cost the others
                self._report(metric, error)
                continue
            if values is not None:
                yield metric, values

    def _report(self, metric: Metric, error: Exception) -> None:
        if metric.name not in self._reported:
            self._reported.add(metric.name)
            log_event(METRIC_FAILED, metric=metric.name, error=f"{type(error).__name__}: {error}")


def import_library() -> None:
    """Imports prometheus_client; called in a thread, for it takes 0.1 s."""
    import prometheus_client.exposition  # noqa: PLC0415, F401 - rule 2 above


def _family(metric: Metric, values: Values) -> Family:
    from prometheus_client.core import (  # noqa: PLC0415 - rule 2 above
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if metric.kind == "histogram":
        histograms = HistogramMetricFamily(
            metric.name, metric.help, labels=metric.labels, unit=metric.unit
        )
        for labels, value in _samples(values):
            if isinstance(value, Histogram):
                histograms.add_metric(labels, value.buckets(), value.total)
        return histograms
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    family = make(name, metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in _samples(values):
        if not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family


def _samples(values: Values) -> Iterable[tuple[tuple[str, ...], Value]]:
    return (((), values),) if isinstance(values, (int, float, Histogram)) else values.items()
