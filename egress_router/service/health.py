"""Readiness: named conditions, each one holds or fails with a reason in words.

Ready means that every declared condition holds and the daemon does not drain. Changes are logged
once, when they happen; asking changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.service.events import DAEMON_NOT_READY, DAEMON_READY
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DRAINING = "the daemon drains and will end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition; `reason` says why it fails and is None while it holds."""

    name: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Readiness at one moment; `for_s` is how long it has been so."""

    ready: bool
    reasons: tuple[str, ...]
    conditions: tuple[Condition, ...]
    for_s: float


class Readiness:
    """The conditions of one daemon; as long as it has none it is not ready."""

    def __init__(
        self, mode: str, *, age_s: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._mode = mode
        self._now = now
        self._reasons: dict[str, str | None] = {}
        self._pending: set[str] = set()
        self._draining = False
        self._since = now() - age_s  # not ready since the process began
        self._was_ready = False
        self._logged: set[str] = set()
        self._on_change: Callable[[], None] = lambda: None

    def declare(self, name: str, reason: str = "not looked at yet") -> None:
        """Adds a condition that fails until it is said to hold; not logged."""
        if name not in self._reasons:
            self._reasons[name] = reason
            self._pending.add(name)

    def hold(self, name: str) -> None:
        """Says that a condition holds."""
        self._reasons[name] = None
        self._pending.discard(name)
        self._report()

    def fail(self, name: str, reason: str) -> None:
        """Says that a condition fails, and why: `link macvlan0 is down`."""
        self._reasons[name] = reason
        self._pending.discard(name)
        self._report()

    def update(self, reasons: Mapping[str, str | None]) -> None:
        """Says of several conditions at once why each fails, or None: one change, one log line."""
        self._reasons.update(reasons)
        self._pending.difference_update(reasons)
        self._report()

    def follow(self, callback: Callable[[], None]) -> None:
        """Calls back whenever conditions were spoken of; they may be as before."""
        self._on_change = callback

    def drain(self) -> None:
        """Not ready from now on, whatever the conditions say."""
        self._draining = True
        self._since = self._now()

    @property
    def ready(self) -> bool:
        """Whether the daemon should be sent new work."""
        return (
            bool(self._reasons)
            and not self._draining
            and all(reason is None for reason in self._reasons.values())
        )

    def snapshot(self) -> Snapshot:
        """The state for /readyz, /status and metrics."""
        reasons = tuple(f"{name}: {why}" for name, why in self._reasons.items() if why is not None)
        if self._draining:
            reasons = (DRAINING, *reasons)
        if not self._reasons:
            reasons = (*reasons, "starting: nothing was looked at yet")
        return Snapshot(
            ready=self.ready,
            reasons=reasons,
            conditions=tuple(
                Condition(name=name, reason=why) for name, why in self._reasons.items()
            ),
            for_s=self._now() - self._since,
        )

    def _report(self) -> None:
        self._on_change()
        if self._draining:
            return
        ready = self.ready
        failing = {name for name, why in self._reasons.items() if why is not None} - self._pending
        now = self._now()
        if ready and not self._was_ready:
            log_event(DAEMON_READY, mode=self._mode, after_s=round(now - self._since, 3))
        elif not ready and self._news(failing):
            log_event(DAEMON_NOT_READY, mode=self._mode, reasons=self.snapshot().reasons)
        if ready != self._was_ready:
            self._since = now
        self._was_ready, self._logged = ready, failing

    def _news(self, failing: set[str]) -> bool:
        """Losing readiness is news; so is a new failure; that some of several hold again is not."""
        return self._was_ready or not failing <= self._logged
