"""Probes side by side."""

from __future__ import annotations

import threading
import time

from egress_router.diagnosis.facts import Untested
from egress_router.programs.doctor.together import Together

DEADLINE_S = 10.0


def test_results_keep_their_order() -> None:
    """Whoever ends first, results come in the order of the probes, and a failure is one of them."""
    second = threading.Event()

    def first() -> str:
        second.wait(DEADLINE_S)
        return "first"

    def fails() -> str:
        second.set()
        raise OSError("the link is gone")

    results = Together([first, fails]).results(time.monotonic() + DEADLINE_S)
    assert results == ("first", Untested(why="cannot be tested here: the link is gone"))


def test_what_is_late_is_given_up() -> None:
    """At the deadline a probe that hangs is Untested, and the others' results are kept."""
    gate, clock = threading.Event(), iter([0.0, 0.0])
    together = Together([lambda: gate.wait(DEADLINE_S), lambda: True])
    results = together.results(1.0, now=lambda: next(clock, 2.0))
    assert results == (Untested(why="no result in time"), True)
    gate.set()


def test_no_probes() -> None:
    """Nothing to do takes no time."""
    assert Together([]).results(0) == ()
