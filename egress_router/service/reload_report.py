"""How the last reload ended, for the log, /status and the metrics."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from egress_router.service import events, metrics
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from egress_router.service.metric_registry import Metrics

SHOWN_MAX = 20  # changes and problems in status
LOGGED_MAX = 200  # in one log line; `egress-router check` prints every problem


class Result(StrEnum):
    """How a reload ended; `none`: there was none yet."""

    NONE = "none"
    APPLIED = "applied"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"


_EVENTS = {
    Result.APPLIED: events.RELOAD_APPLIED,
    Result.REFUSED: events.RELOAD_REFUSED,
    Result.UNSUPPORTED: events.RELOAD_UNSUPPORTED,
}


class ReloadReport:
    """One daemon's; `generation` is 1 at the start and grows with each change put in force."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.generation = 1
        self.result = Result.NONE
        self.at: float | None = None  # seconds since 1970
        self.source: str | None = None
        self.changes: tuple[str, ...] = ()
        self.problems: tuple[str, ...] = ()
        self.counts = dict.fromkeys(_EVENTS, 0)
        self.ended = 0
        self._ended_now = 0

    def take_over(self, ended: int) -> None:
        """Another configuration is in force; that many connections were ended for it."""
        self.generation += 1
        self._ended_now = ended
        self.ended += ended

    def conclude(
        self,
        result: Result,
        source: str,
        changes: tuple[str, ...] = (),
        problems: tuple[str, ...] = (),
    ) -> None:
        """A reload is over: remembers how, counts it and writes its line."""
        applied = result is Result.APPLIED
        self.result, self.at, self.source, self.problems = result, time.time(), source, problems
        self.changes = changes if applied else ()
        self.counts[result] += 1
        fields: dict[str, Any] = {"changes": shorten(changes, LOGGED_MAX)}
        if applied:
            fields["ended"], self._ended_now = self._ended_now, 0
        else:
            fields["problems"] = shorten(problems, LOGGED_MAX)
        log_event(
            _EVENTS[result],
            mode=self._mode,
            source=source,
            generation=self.generation,
            **fields,
        )

    def status(self) -> dict[str, Any]:
        """The part `reload` of /status."""
        at = None if self.at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at))
        return {
            "generation": self.generation,
            "result": str(self.result),
            "at": at,
            "source": self.source,
            "changes": list(shorten(self.changes, SHOWN_MAX)),
            "problems": list(shorten(self.problems, SHOWN_MAX)),
        }

    def provide(self, registry: Metrics) -> None:
        """Says how the metrics of reloads are read."""
        sound = {Result.NONE, Result.APPLIED}
        registry.provide(metrics.CONFIG_GENERATION, lambda: self.generation)
        registry.provide(
            metrics.CONFIG_RELOADS, lambda: {(str(k),): v for k, v in self.counts.items()}
        )
        registry.provide(metrics.CONFIG_RELOAD_SUCCESSFUL, lambda: float(self.result in sound))
        registry.provide(metrics.CONFIG_RELOAD_TIME, lambda: self.at)
        registry.provide(metrics.CONFIG_CONNECTIONS_ENDED, lambda: self.ended)


def shorten(words: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The first ones, and how many there are beside them."""
    if len(words) <= most:
        return words
    return (*words[:most], f"and {len(words) - most} more")
