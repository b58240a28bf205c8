"""Probes side by side, against one deadline; what is late is given up, not waited for."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from egress_router.diagnosis.facts import Untested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Together(Generic[T]):
    """Probes of one kind, running from now on, each in a thread that the program's end cuts."""

    def __init__(self, probes: Sequence[Callable[[], T]]) -> None:
        self._count = len(probes)
        self._done: queue.SimpleQueue[tuple[int, T | Untested]] = queue.SimpleQueue()
        for index, probe in enumerate(probes):
            threading.Thread(target=self._run, args=(index, probe), daemon=True).start()

    def results(
        self, deadline: float, *, now: Callable[[], float] = time.monotonic
    ) -> tuple[T | Untested, ...]:
        """What they brought home, in their order; `deadline` on the clock `now`.

        A probe that has raised, or is late, is Untested.
        """
        results: dict[int, T | Untested] = {}
        while len(results) < self._count:
            try:
                index, result = self._done.get(timeout=max(0.0, deadline - now()))
            except queue.Empty:
                break
            results[index] = result
        late = Untested(why="no result in time")
        return tuple(results.get(index, late) for index in range(self._count))

    def _run(self, index: int, probe: Callable[[], T]) -> None:
        try:
            self._done.put((index, probe()))
        except Exception as error:  # noqa: BLE001 - one probe's trouble must not cost the others
            self._done.put((index, Untested(why=f"cannot be tested here: {error}")))
