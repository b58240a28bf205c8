"""The idle wheel on a loop whose time is made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.net.wheel import BATCH, Idler, IdleWheel

pytestmark = pytest.mark.interpreted


class FakeLoop:
    """Just enough of a loop: time, one timer after the other, and calls for the next turn."""

    def __init__(self) -> None:
        self.now = 50.0
        self.timers: list[tuple[float, Any]] = []
        self.soon: list[Any] = []
        self.turns = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> object:
        self.timers.append((when, callback))
        return object()

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            when, callback = self.timers.pop(0)
            self.now = max(self.now, when)
            callback()
            self.turn()
        self.now = end

    def turn(self) -> None:
        while self.soon:
            self.turns += 1
            calls, self.soon = self.soon, []
            for call in calls:
                call()


class Tunnel(Idler):
    """Remembers when it was ended."""

    def __init__(self, loop: FakeLoop, idle_ticks: int) -> None:
        super().__init__(idle_ticks)
        self.loop = loop
        self.ended_at: list[float] = []

    def end_idle(self) -> None:
        self.ended_at.append(self.loop.now)


@given(
    limit=st.integers(1, 30),
    gaps=st.lists(st.floats(0.0, 40.0), max_size=8),
    tick_s=st.sampled_from([0.25, 1.0]),
)
def test_end_comes_after_the_limit_and_soon(limit: int, gaps: list[float], tick_s: float) -> None:
    """Whatever the activity before: never early, and three ticks late at most."""
    loop = FakeLoop()
    wheel = IdleWheel(loop, tick_s=tick_s)  # type: ignore[arg-type]
    tunnel = Tunnel(loop, wheel.ticks(limit))
    wheel.add(tunnel)
    last = loop.now
    for gap in gaps:
        loop.advance(gap)
        if tunnel.ended_at:
            break
        tunnel.active_tick, last = wheel.now, loop.now
    loop.advance(100)
    (ended_at,) = tunnel.ended_at
    assert limit <= ended_at - last <= limit + 3 * tick_s
    assert len(wheel) == 0
    assert not loop.timers


def test_discarded_is_never_ended() -> None:
    """What has left the wheel stays off it, also if it was about to be looked at."""
    loop = FakeLoop()
    wheel = IdleWheel(loop)  # type: ignore[arg-type]
    tunnels = [Tunnel(loop, wheel.ticks(5)) for _ in range(3 * BATCH)]
    for tunnel in tunnels:
        wheel.add(tunnel)
    wheel.discard(tunnels[0])
    while not any(tunnel.ended_at for tunnel in tunnels):
        when, callback = loop.timers.pop(0)
        loop.now = when
        callback()
    waiting = [tunnel for tunnel in tunnels if not tunnel.ended_at]
    assert len(waiting) == 2 * BATCH
    wheel.discard(waiting[-1])
    loop.turn()
    assert [tunnel for tunnel in tunnels if not tunnel.ended_at] == [tunnels[0], waiting[-1]]
    assert loop.turns >= 2


@pytest.mark.parametrize(("limit", "silent"), [(3600, 100), (15, 10)], ids=["nearer", "farther"])
def test_changed_limit_takes_effect(limit: int, silent: int) -> None:
    """The end of a half-closed tunnel is nearer or farther than it was, and comes then."""
    loop = FakeLoop()
    wheel = IdleWheel(loop)  # type: ignore[arg-type]
    tunnel = Tunnel(loop, wheel.ticks(limit))
    wheel.add(tunnel)
    loop.advance(silent)
    tunnel.active_tick, tunnel.idle_ticks = wheel.now, wheel.ticks(60)
    wheel.move(tunnel)
    loop.advance(59)
    assert not tunnel.ended_at
    loop.advance(5)
    assert tunnel.ended_at
    assert len(wheel) == 0


def test_wheel_survives_a_loop_that_stood_still() -> None:
    """Slots that were passed over are looked at late, not lost."""
    loop = FakeLoop()
    wheel = IdleWheel(loop)  # type: ignore[arg-type]
    tunnel = Tunnel(loop, wheel.ticks(5))
    wheel.add(tunnel)
    loop.now += 1000
    loop.advance(0)
    assert tunnel.ended_at
