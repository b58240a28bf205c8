"""Which of a daemon's processes one is."""

from __future__ import annotations

import pytest

from egress_router.service.place import ALONE, Place


def test_alone() -> None:
    """The one process of a daemon has all duties, the whole limit, and plain ids."""
    assert (ALONE.first, ALONE.alone, ALONE.id_prefix) == (True, True, "")
    assert (ALONE.share_of(7), ALONE.share_of(None)) == (7, None)


@pytest.mark.parametrize(
    ("limit", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (10, 4), (None, None)]
)
def test_shares_of_a_limit_are_rounded_up(limit: int | None, share: int | None) -> None:
    """No process is left without a place, so their sum may be a little more than the limit."""
    assert Place(number=2, count=3).share_of(limit) == share


def test_ids_differ_between_processes() -> None:
    """Number 1f of one process is not number 1f of another one."""
    prefixes = {Place(number=number, count=3).id_prefix for number in range(3)}
    assert len(prefixes) == 3
    assert all(prefixes)
    assert [Place(number=number, count=3).first for number in range(3)] == [True, False, False]
