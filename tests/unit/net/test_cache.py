"""How long outcomes may be used, by a clock that moves when told to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress_router.net.cache import Cache
from egress_router.net.resolution import Absent, Failed, Found, ResolutionCause, State
from egress_router.net.scan import RecordType

KEY = ((b"www", b"test"), RecordType.A)
GOOD = Found(addresses=(ip_address("192.0.2.1"),), ttl_s=60)
GONE = Absent(cause=ResolutionCause.NAME_NOT_FOUND, ttl_s=10)
BROKEN = Failed(cause=ResolutionCause.SERVER_FAILURE, detail="")


class Clock:
    """Seconds that pass when they are added."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def kept_s(outcome: Found | Absent | Failed) -> float:
    """How long a first outcome is fresh."""
    clock = Clock()
    return Cache(clock).store(KEY, outcome).expires - clock.now


@pytest.mark.parametrize(("ttl", "kept"), [(0, 0), (1, 5), (5, 5), (600, 600)])
def test_addresses_are_kept_by_ttl(ttl: int, kept: float) -> None:
    """At least 5 s, but not at all for TTL 0."""
    assert kept_s(Found(addresses=GOOD.addresses, ttl_s=ttl)) == kept


@pytest.mark.parametrize(("ttl", "kept"), [(0, 1), (10, 10), (3600, 60), (None, 5)])
def test_a_no_is_kept_for_a_minute_at_most(ttl: int | None, kept: float) -> None:
    """By the SOA minimum, between 1 and 60 s."""
    assert kept_s(Absent(cause=ResolutionCause.NO_ADDRESS, ttl_s=ttl)) == kept


def test_failures_back_off_to_five_seconds() -> None:
    """1, 2, 4, 5, 5 s, and 1 s again after an answer."""
    clock = Clock()
    cache = Cache(clock)
    pauses = [cache.store(KEY, BROKEN).expires - clock.now for _ in range(20)]
    assert pauses == [1, 2, 4, *[5] * 17]
    cache.store(KEY, GOOD)
    assert cache.store(KEY, BROKEN).expires - clock.now == 1


@pytest.mark.parametrize(
    ("outcome", "seconds", "usable"),
    [
        (BROKEN, 86_399, GOOD),
        (BROKEN, 86_401, None),
        (GONE, 29, GOOD),
        (GONE, 31, None),
    ],
)
def test_last_good_addresses_outlive_trouble(
    outcome: Absent | Failed, seconds: float, usable: Found | None
) -> None:
    """A day of failures, 30 s of a no."""
    clock = Clock()
    cache = Cache(clock)
    cache.store(KEY, GOOD)
    clock.now += GOOD.ttl_s
    cache.store(KEY, outcome)
    clock.now += seconds
    assert cache.stale(KEY) == usable


def test_a_repeated_no_does_not_extend_the_thirty_seconds() -> None:
    """The 30 s count from the first no; a good answer starts them anew."""
    clock = Clock()
    cache = Cache(clock)
    cache.store(KEY, GOOD)
    for _ in range(4):
        clock.now += 11
        cache.store(KEY, GONE)
    assert cache.stale(KEY) is None
    cache.store(KEY, GOOD)
    cache.store(KEY, GONE)
    assert cache.stale(KEY) == GOOD


def test_states_tell_fresh_stale_and_failed() -> None:
    """For metrics every entry has a state, and an age once its addresses are stale."""
    clock = Clock()
    cache = Cache(clock)
    other = ((b"other", b"test"), RecordType.A)
    cache.store(KEY, GOOD)
    cache.store(other, BROKEN)
    seen = {key: (state, age_s) for key, state, _, age_s in cache.states()}
    assert seen == {KEY: (State.FRESH, 0), other: (State.FAILED, 0)}
    clock.now += 90
    seen = {key: (state, age_s) for key, state, _, age_s in cache.states()}
    assert seen[KEY] == (State.STALE, 30)


def test_cache_is_bounded() -> None:
    """Beyond its size the entry that was stored longest ago goes."""
    cache = Cache(Clock(), entries_max=3)
    keys = [((b"n%d" % number, b"test"), RecordType.A) for number in range(4)]
    for key in (*keys[:3], keys[0], keys[3]):
        cache.store(key, GOOD)
    assert [cache.fresh(key) is not None for key in keys] == [True, False, True, True]
