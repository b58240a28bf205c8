"""Cardinality is bounded, and no count is lost to that."""

from hypothesis import given
from hypothesis import strategies as st

from egress_router.service.series import OTHER, Counts, bound_series

SAMPLES = st.lists(
    st.tuples(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy")), st.integers(0, 9).map(float)
    )
)


@given(SAMPLES, st.integers(1, 8))
def test_bound_series(samples: list[tuple[tuple[str, ...], float]], most: int) -> None:
    """The sum stays, there are no more open values than allowed, directions are kept apart."""
    series = bound_series(samples, own=1, most=most)
    opened = {labels[0] for labels in series}
    assert len(opened - {OTHER}) <= most
    assert {labels[1] for labels in series} <= {"x", "y"}
    for direction in "xy":
        assert sum(v for labels, v in series.items() if labels[1] == direction) == sum(
            v for labels, v in samples if labels[1] == direction
        )


def test_the_first_ones_have_a_series_of_their_own() -> None:
    """Which ones are told apart follows their order, so that it is the same at each scrape."""
    samples = [((name,), 1.0) for name in "abcab"]
    assert bound_series(samples, most=2) == {("a",): 2.0, ("b",): 2.0, (OTHER,): 1.0}


@given(st.lists(st.integers(0, 9)), st.integers(0, 5))
def test_counts(keys: list[int], most: int) -> None:
    """Counts by key only grow, are bounded, and hold every one."""
    counts: Counts[int] = Counts(-1, most=most)
    for key in keys:
        before = dict(counts.counts)
        counts.add(key)
        assert all(counts.counts[k] >= v for k, v in before.items())
    assert sum(counts.counts.values()) == len(keys)
    assert len(counts.counts.keys() - {-1}) <= most
