"""A histogram that costs its caller a search among a dozen numbers and two additions.

prometheus_client's own is for whoever has time: it takes locks and looks labels up. Counts are kept
by bucket, and added up when somebody scrapes.
"""

from __future__ import annotations

from itertools import accumulate

# From a connection inside one rack to the limit of a dial and of a lookup.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Counts of values by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        """Counts one value."""
        self.total += value
        bucket = 0
        for bound in self.bounds:  # most are below the first one
            if value <= bound:
                break
            bucket += 1
        self.counts[bucket] += 1

    def add(self, other: Histogram) -> None:
        """Counts what another one of the same bounds has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound, as text, and how many values are not above it; the last is `+Inf`."""
        bounds = (*(repr(bound) for bound in self.bounds), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))
