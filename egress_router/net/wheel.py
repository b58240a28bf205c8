"""Idle timeouts for thousands of connections from one timer.

A timer for each connection would be set again with every byte. Here a connection that moves bytes
only notes the current tick; once its slot comes up it either has been idle or is put in a later
slot. So an end comes up to two ticks late, and never early.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from egress_router.net.poller import Watcher

if TYPE_CHECKING:
    import asyncio

TICK_S: Final = 1.0
BATCH: Final = 256  # looked at in one turn of the loop: closing a crowd must not hold up the others
OFF: Final = -1  # the slot of what is not on the wheel (any more)


class Idler(Watcher):
    """What can be put on the wheel; the three numbers are ticks, `slot` is the wheel's own.

    A watcher for the sake of those that are one as well: compiled classes have one base.
    """

    __slots__ = ("active_tick", "idle_ticks", "slot")

    def __init__(self, idle_ticks: int) -> None:
        self.active_tick = 0
        self.idle_ticks = idle_ticks
        self.slot: int = OFF

    def end_idle(self) -> None:
        """The limit has passed without a byte; the wheel has let go already (see `keep`)."""
        raise NotImplementedError


class IdleWheel:
    """One coarse timer for one loop; it stands still while nothing is on it."""

    __slots__ = ("_due", "_loop", "_slots", "_tick_s", "_timer", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tick_s: float = TICK_S) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._slots: dict[int, set[Idler]] = {}
        self._due: deque[Idler] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.now = int(loop.time() / tick_s)

    def ticks(self, seconds: float) -> int:
        """The whole number of ticks that is never shorter than these seconds."""
        return int(seconds / self._tick_s) + 2

    def add(self, idler: Idler) -> None:
        """Watches from now on; the idler counts as active now."""
        if self._timer is None:
            self.now = max(self.now, int(self._loop.time() / self._tick_s))
            self._arm()
        idler.active_tick = self.now
        self._place(idler)

    def move(self, idler: Idler) -> None:
        """Takes a changed `idle_ticks` into account, counted from the last activity."""
        # A later end is found when the slot comes up, like any that has become later by activity.
        if idler.active_tick + idler.idle_ticks < idler.slot:
            self.discard(idler)
            self._place(idler)

    def keep(self, idler: Idler) -> bool:
        """Watches on, in `end_idle`, with longer `idle_ticks`; False if even those have passed."""
        if idler.active_tick + idler.idle_ticks <= self.now:
            return False
        self._place(idler)
        return True

    def discard(self, idler: Idler) -> None:
        """Watches no more."""
        slot, idler.slot = idler.slot, OFF
        members = self._slots.get(slot)
        if members is not None:
            members.discard(idler)
            if not members:
                del self._slots[slot]

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def _place(self, idler: Idler) -> None:
        slot = max(idler.active_tick + idler.idle_ticks, self.now + 1)
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {idler}
        else:
            members.add(idler)
        idler.slot = slot

    def _arm(self) -> None:
        self._timer = self._loop.call_at((self.now + 1) * self._tick_s, self._turn)

    def _turn(self) -> None:
        self.now = max(self.now + 1, int(self._loop.time() / self._tick_s))
        # The loop may have stood still for a while: every slot that was passed over is looked at.
        for slot in sorted(slot for slot in self._slots if slot <= self.now):
            self._due.extend(self._slots.pop(slot))
        self._look_at_due()
        if self._slots or self._due:
            self._arm()
        else:
            self._timer = None

    def _look_at_due(self) -> None:
        for _ in range(min(BATCH, len(self._due))):
            idler = self._due.popleft()
            if idler.slot == OFF:
                continue
            if idler.active_tick + idler.idle_ticks > self.now:
                self._place(idler)
            else:
                idler.end_idle()
        if self._due:
            self._loop.call_soon(self._look_at_due)
