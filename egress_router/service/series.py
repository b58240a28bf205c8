"""Bounded cardinality: a metric has as many label values as this room allows, whatever comes.

What is beyond SERIES_MAX shares one series whose labels are all `other`, so that sums stay right.
Which ones have their own is settled by their order: that of the configuration, or of their first
appearance. Once a counter had a series of its own it keeps it, and only grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

SERIES_MAX: Final = 1000  # a list of ten thousand lines must not become a hundred thousand series
OTHER: Final = "other"

Series: TypeAlias = dict[tuple[str, ...], float]
Key = TypeVar("Key")


def bound_series(
    samples: Iterable[tuple[tuple[str, ...], float]], *, own: int = 0, most: int = SERIES_MAX
) -> Series:
    """Sums samples of equal labels; beyond `most` distinct ones, those share the label `other`.

    The last `own` labels are kept as they are: they come from a closed set, such as a direction,
    and are not counted.
    """
    series: Series = {}
    known: set[tuple[str, ...]] = set()
    for labels, value in samples:
        open_part = labels[: len(labels) - own]
        key = labels
        if open_part not in known:
            if len(known) < most:
                known.add(open_part)
            else:
                key = (OTHER,) * len(open_part) + labels[len(labels) - own :]
        series[key] = series.get(key, 0) + value
    return series


class Counts(Generic[Key]):
    """Counts by keys that others choose: `most` of them, the rest under the key `other`."""

    __slots__ = ("_most", "_other", "counts")

    def __init__(self, other: Key, *, most: int = SERIES_MAX) -> None:
        self._other = other
        self._most = most
        self.counts: dict[Key, int] = {}

    def add(self, key: Key) -> None:
        """Counts one."""
        counts = self.counts
        if key in counts:
            counts[key] += 1
            return
        if len(counts) >= self._most:
            key = self._other
        counts[key] = counts.get(key, 0) + 1
