"""The probe of the event loop's lag, on a loop and a clock of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.service.lag import INTERVAL_S, WINDOW_S, LagProbe

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A timer that only a test makes run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.callback: Callable[[], Any] | None = None

    def call_later(self, _delay_s: float, callback: Callable[[], Any]) -> Timer:
        self.callback = callback
        return self

    def cancel(self) -> None:
        self.callback = None

    def run(self, late_s: float = 0.0) -> None:
        assert self.callback is not None
        self.now += INTERVAL_S + late_s
        self.callback()


def test_the_largest_lag_is_kept_for_a_while_and_then_forgotten() -> None:
    """A lag is told for at least one window and at most two."""
    timer = Timer()
    probe = LagProbe(timer, lambda: timer.now)  # type: ignore[arg-type]  # all it needs of a loop
    timer.run()
    assert probe.largest_s() < 1e-9
    timer.run(late_s=0.3)
    timer.run(late_s=0.1)
    assert abs(probe.largest_s() - 0.3) < 1e-9
    seen = timer.now
    while probe.largest_s() > 1e-6:
        timer.run()
    assert WINDOW_S <= timer.now - seen <= 2 * WINDOW_S + INTERVAL_S


def test_a_stopped_probe_leaves_no_timer() -> None:
    """After stop nothing wakes the loop."""
    timer = Timer()
    LagProbe(timer, lambda: timer.now).stop()  # type: ignore[arg-type]  # all it needs of a loop
    assert timer.callback is None
