"""The addresses behind one port: which is next, which have failed, which live again.

1. Each connection begins with another address, so that all are used in turn, IPv4 before IPv6. At
   most three are tried, those that failed lately last (net.health).
2. When all have failed, one connection a second to each finds out when one lives again, so that no
   client has to be dropped for that. Where checks are on, the same goes on all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
from math import lcm
from typing import TYPE_CHECKING, Final

from egress_router.modes.dns.sockets import reset
from egress_router.net.dial import Dialler, DialLimits
from egress_router.net.dial_errors import DialError
from egress_router.net.health import Health, rotate

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.config.dns import DnsTimes
    from egress_router.modes.dns.names import Name
    from egress_router.modes.dns.port import Shared
    from egress_router.net.dial import Dial, OnEnd
    from egress_router.net.endpoint import IPAddress

TRIES: Final = 3  # the originals' `retries 3`, each on another address
PROBE_EVERY_S: Final = 1.0
PROBES_MAX: Final = 16  # at once for one port
# A partner that takes longer is as good as dead.
_PROBE_LIMITS: Final = DialLimits(dial_s=2.0, tries=1)


class Partners:
    """`changed` is called when a probe has found out something."""

    def __init__(
        self,
        name: Name,
        port: int,
        shared: Shared,
        times: DnsTimes,
        *,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.port = port
        self._outside = shared.outside
        self._poller = poller = shared.carrier.poller
        self._health = Health()
        limits = DialLimits(dial_s=times.dial_s, tries=TRIES)
        self._dialler = Dialler(poller=poller, health=self._health, limits=limits)
        self._prober = Dialler(poller=poller, health=self._health, limits=_PROBE_LIMITS)
        self._check_s = times.check_s or 0.0
        self._changed = changed
        self._turn = 0
        self._seen: tuple[IPAddress, ...] = ()
        self._orders: dict[int, tuple[IPAddress, ...]] = {}
        self._round = 1
        self._probing: asyncio.Task[None] | None = None

    def alive(self) -> tuple[IPAddress, ...]:
        """The addresses that have not failed lately."""
        failed = {address for address, _ in self._health.avoided()}
        return tuple(address for address in self.name.addresses if address not in failed)

    @property
    def all_failed(self) -> bool:
        """Whether there are addresses, and none of them is alive."""
        return bool(self.name.addresses) and not self.alive()

    def forget(self) -> None:
        """What failed did so for a reason of our own: nothing is known of any address."""
        self._health.clear()

    def connect(self, on_end: OnEnd) -> Dial:
        """Connects to the next partner, or to another one; see `Dialler.start`."""
        return self._dialler.start(
            self._in_turn(), self.port, self._outside.egress, on_end, hold_ack=True
        )

    def watch(self) -> None:
        """Probes, if there is a reason to."""
        if self._probing is None and (self._check_s or self.all_failed):
            self._probing = asyncio.get_running_loop().create_task(self._probe(), name="dns probe")

    def close(self) -> None:
        """Probes no more."""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    def _in_turn(self) -> tuple[IPAddress, ...]:
        if self._seen is not self.name.addresses:
            self._seen = self.name.addresses
            self._orders.clear()
            self._round = lcm(*(len(one) or 1 for one in _by_family(self._seen)))
        self._turn = (self._turn + 1) % self._round
        order = self._orders.get(self._turn)
        if order is None:
            # Kept, for the dialler knows orders it has seen by their identity.
            four, six = _by_family(self._seen)
            order = (*rotate(four, self._turn), *rotate(six, self._turn))
            self._orders[self._turn] = order
        return order

    async def _probe(self) -> None:
        try:
            while self._check_s or self.all_failed:
                await asyncio.sleep(PROBE_EVERY_S if self.all_failed else self._check_s)
                if self._outside.trouble():
                    continue  # it would say nothing about the partners
                before = self.alive()
                atonce = asyncio.Semaphore(PROBES_MAX)
                await asyncio.gather(*(self._try(one, atonce) for one in self.name.addresses))
                if self.alive() != before:
                    self._changed()
        finally:
            self._probing = None

    async def _try(self, address: IPAddress, atonce: asyncio.Semaphore) -> None:
        async with atonce:
            with contextlib.suppress(DialError):
                sock = await self._prober.dial((address,), self.port, self._outside.egress)
                self._poller.forget(sock.fileno())
                reset(sock)


def _by_family(
    addresses: tuple[IPAddress, ...],
) -> tuple[tuple[IPAddress, ...], tuple[IPAddress, ...]]:
    four = tuple(one for one in addresses if one.version == 4)
    return four, addresses[len(four) :]
