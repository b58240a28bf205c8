"""The one clock of a client connection: what it waits for now, and how long that may take.

A connection is always in one phase. Bytes that move within a phase that is watched for idleness
push its end out; a head has to be complete in time however it drips.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from egress_router.net.wheel import OFF, Idler

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.config.http import HttpTimes
    from egress_router.net.wheel import IdleWheel


class Phase(IntEnum):
    """What a connection waits for; numbers, because every request passes through most of them."""

    HEAD = 0
    KEEPALIVE = 1
    CONNECT = 2
    ANSWER = 3
    BODY = 4
    CLOSING = 5


# What a client gets to read our last answer before its unread bytes cause a reset.
CLOSING_S: Final = 2.0


class Watchdog(Idler):
    """Calls `expired` with the phase once it has taken too long."""

    __slots__ = (
        "_expired",
        "_ticks",
        "_wheel",
        "phase",
    )

    def __init__(
        self,
        wheel: IdleWheel,
        ticks: tuple[int, ...],
        expired: Callable[[Phase], None],
    ) -> None:
        super().__init__(ticks[Phase.HEAD])
        self._wheel = wheel
        self._ticks = ticks
        self._expired = expired
        self.phase = Phase.HEAD
        wheel.add(self)

    def enter(self, phase: Phase) -> None:
        """The connection waits for something else from now on."""
        self.phase = phase
        self.active_tick = self._wheel.now
        self.idle_ticks = self._ticks[phase]
        if self.slot == OFF:
            self._wheel.add(self)
        else:
            self._wheel.move(self)

    def touch(self) -> None:
        """Something moved."""
        self.active_tick = self._wheel.now

    def stop(self) -> None:
        """Watches no more."""
        self._wheel.discard(self)

    def close(self) -> None:
        """Watches no more, and forgets whom to call: the connection has us, and ends now."""
        self.stop()
        self._expired = _nobody

    def end_idle(self) -> None:
        """The wheel found that the phase has taken too long, and watches no more."""
        self.slot = OFF
        self._expired(self.phase)


def _nobody(_phase: Phase) -> None:
    """For the phases of a connection that has ended."""


def phase_ticks(wheel: IdleWheel, times: HttpTimes) -> tuple[int, ...]:
    """The limits of all phases in ticks of the wheel."""
    seconds = {
        Phase.HEAD: times.head_s,
        Phase.KEEPALIVE: times.keepalive_s,
        # The lookup and the dial have limits of their own; this one only stands behind them. Not
        # before the head's, so that a tunnel's begin costs the wheel nothing.
        Phase.CONNECT: max(times.dial_s + 30, times.head_s),
        Phase.ANSWER: times.answer_s,
        Phase.BODY: times.body_s,
        Phase.CLOSING: CLOSING_S,
    }
    return tuple(wheel.ticks(seconds[phase]) for phase in Phase)
