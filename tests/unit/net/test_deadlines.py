"""Deadlines on a loop whose time is made up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from egress_router.net.deadlines import Deadlines

SPAN_S = 10.0


class FakeLoop:
    """Just enough of a loop: time, and timers in their order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> object:
        self.timers.append((when, callback))
        return object()

    def advance(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            when, callback = self.timers.pop(0)
            self.now = max(self.now, when)
            callback()
        self.now = max(self.now, until)


@given(st.lists(st.tuples(st.floats(0, 30), st.none() | st.floats(0, 20)), min_size=1, max_size=40))
def test_each_is_called_once_at_its_time_or_taken_back(
    plan: list[tuple[float, float | None]],
) -> None:
    """What is not taken back is called when its span has passed; there is one timer at most."""
    loop = FakeLoop()
    deadlines = Deadlines(loop, SPAN_S, clock=loop.time)  # type: ignore[arg-type]
    called: dict[int, float] = {}
    moments = []
    for index, (at, taken_after) in enumerate(plan):
        moments.append((at, 0, index))
        if taken_after is not None:
            moments.append((at + taken_after, 1, index))
    numbers: dict[int, int] = {}
    for at, what, index in sorted(moments):
        loop.advance(at)
        if what:
            deadlines.take_back(numbers[index])
        else:
            numbers[index] = deadlines.set(lambda index=index: called.setdefault(index, loop.now))
        assert len(loop.timers) <= 1
    loop.advance(1000)
    expected = {
        index: at + SPAN_S
        for index, (at, taken_after) in enumerate(plan)
        if taken_after is None or taken_after > SPAN_S
    }
    maybe = {index for index, (_, taken_after) in enumerate(plan) if taken_after == SPAN_S}
    assert {index: at for index, at in called.items() if index not in maybe} == expected
    assert len(deadlines) == 0


def test_one_that_is_called_may_set_another() -> None:
    """A call that sets a deadline is no danger to those behind it."""
    loop = FakeLoop()
    deadlines = Deadlines(loop, SPAN_S, clock=loop.time)  # type: ignore[arg-type]
    called: list[float] = []
    deadlines.set(lambda: deadlines.set(lambda: called.append(loop.now)))
    deadlines.set(lambda: called.append(-loop.now))
    loop.advance(30)
    assert called == [-SPAN_S, 2 * SPAN_S]
