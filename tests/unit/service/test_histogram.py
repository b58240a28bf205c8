"""Histograms that cost next to nothing."""

from hypothesis import given
from hypothesis import strategies as st

from egress_router.service.histogram import SECONDS, Histogram


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_buckets_are_counts_of_what_is_not_above(values: list[float]) -> None:
    """Each bucket holds the values up to its bound, the bound included; the last holds all."""
    histogram = Histogram()
    for value in values:
        histogram.note(value)
    *bounded, (last, count) = histogram.buckets()
    assert [float(bound) for bound, _ in bounded] == list(SECONDS)
    for bound, held in bounded:
        assert held == sum(value <= float(bound) for value in values)
    assert (last, count) == ("+Inf", len(values))
    assert histogram.total == sum(values)
