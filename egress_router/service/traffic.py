"""What the kernel has counted, for metrics and status: read when somebody asks, and not again soon.

1. A reading is taken in the kernel's thread before an answer of the admin endpoint is made. Nobody
   asks: nothing is read.
2. A reading is good for AGE_S, and for TIMES as long as it took: a table of ten thousand
   destinations costs a quarter of a second, and no number of scrapers makes that more than a tenth
   of a processor.
3. An answer waits WAIT_S for the kernel at most; after that it tells the last reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from egress_router.errors import KernelError
from egress_router.net.endpoint import render_endpoint
from egress_router.plan.counting import DIRECTIONS, DROPPED, Tally
from egress_router.service import metrics
from egress_router.service.series import Series, bound_series

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from egress_router.kernel.traffic import Traffic
    from egress_router.plan.counting import DestinationTally, Ports
    from egress_router.service.daemon import Service

AGE_S = 0.5
TIMES = 10
WAIT_S = 2.0
ANY = "any"
_LINK_DIRECTIONS = {"received": "rx", "sent": "tx"}


class TrafficReport:
    """The last reading, and what metrics and status tell of it."""

    def __init__(self, service: Service, read: Callable[[], Awaitable[Traffic | None]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.Task[None] | None = None
        self._stale_at = 0.0
        self._traffic: Traffic | None = None
        service.provide_reading(self.refresh)
        self._provide(service)

    @property
    def traffic(self) -> Traffic | None:
        """The last reading; None: there is none yet."""
        return self._traffic

    async def refresh(self) -> None:
        """Takes a reading if the last one is too old, or waits for the one that is being taken."""
        if self._reading is None:
            if self._loop.time() < self._stale_at:
                return
            self._reading = self._loop.create_task(self._take(), name="traffic reading")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._reading), WAIT_S)

    def status(self) -> dict[str, Any]:
        """What has passed, for the document of /status."""
        traffic = self._traffic
        if traffic is None:
            return {}
        document: dict[str, Any] = {"traffic": dict(traffic.link)}
        if traffic.tally is not None:
            document["nat"] = {
                name: {"packets": count.packets, "bytes": count.bytes}
                for name, count in traffic.tally.counters.items()
                if name in DIRECTIONS or name.startswith(DROPPED)
            }
            document["destinations"] = [_row(one) for one in traffic.tally.destinations]
        return document

    async def _take(self) -> None:
        started = self._loop.time()
        try:
            self._traffic = await self._read()
        except (KernelError, RuntimeError):  # the latter: the kernel's thread has ended
            self._traffic = None  # readiness tells why the kernel cannot be asked
        finally:
            now = self._loop.time()
            self._stale_at = now + max(AGE_S, TIMES * (now - started))
            self._reading = None

    def _provide(self, service: Service) -> None:
        provide = service.metrics.provide
        provide(metrics.LINK_UP, lambda: float(self._traffic.link_up) if self._traffic else None)
        provide(metrics.LINK_BYTES, lambda: self._link("bytes"))
        provide(metrics.LINK_PACKETS, lambda: self._link("packets"))
        provide(metrics.GATEWAY_STATE, self._gateways)
        provide(metrics.CONNTRACK_ENTRIES, lambda: self._tracking("entries"))
        provide(metrics.CONNTRACK_LIMIT, lambda: self._tracking("limit"))
        provide(metrics.NAT_BYTES, lambda: self._passed("bytes"))
        provide(metrics.NAT_PACKETS, lambda: self._passed("packets"))
        provide(metrics.DROPS, self._drops)
        provide(metrics.DESTINATION_CONNECTIONS, self._connections)
        provide(metrics.DESTINATION_BYTES, self._bytes)
        provide(metrics.DNS_KERNEL_CONNECTIONS, self._port_connections)
        provide(metrics.DNS_KERNEL_BYTES, self._port_bytes)

    @property
    def _tally(self) -> Tally:
        return (self._traffic.tally if self._traffic else None) or Tally()

    def _link(self, unit: str) -> Series:
        link = self._traffic.link if self._traffic else {}
        return {
            (direction,): link[f"{prefix}_{unit}"]
            for direction, prefix in _LINK_DIRECTIONS.items()
            if f"{prefix}_{unit}" in link
        }

    def _gateways(self) -> Series:
        series: Series = {}
        for one in self._traffic.gateways if self._traffic else ():
            now = "failed" if one.state == "failed" else "asked" if one.silent else "known"
            for state in ("known", "asked", "failed"):
                series[str(one.address), state] = float(state == now)
        return series

    def _tracking(self, field: str) -> float | None:
        value = getattr(self._traffic.tracking, field) if self._traffic else None
        return None if value is None else float(value)

    def _passed(self, unit: str) -> Series:
        counters = self._tally.counters
        return {
            (direction,): getattr(counters[direction], unit)
            for direction in DIRECTIONS
            if direction in counters
        }

    def _drops(self) -> Series:
        series: Series = {
            (name.removeprefix(DROPPED),): count.packets
            for name, count in self._tally.counters.items()
            if name.startswith(DROPPED)
        }
        for reason, field in (("conntrack_full", "full"), ("conntrack_failed", "failed")):
            value = self._tracking(field)
            if value is not None:
                series[(reason,)] = value
        return series

    def _connections(self) -> Series | None:
        found = self._tally.destinations
        return bound_series((_labels(one), one.connections) for one in found) or None

    def _bytes(self) -> Series | None:
        return bound_series(self._directions(), own=1) or None

    @property
    def _ports(self) -> Ports:
        return self._traffic.ports if self._traffic else {}

    def _port_connections(self) -> Series | None:
        found = self._ports.items()
        samples = (((name, str(port)), one.connections) for (name, port), one in found)
        return bound_series(samples) or None

    def _port_bytes(self) -> Series | None:
        samples = (
            ((name, str(port), direction), getattr(one, direction).bytes)
            for (name, port), one in self._ports.items()
            for direction in DIRECTIONS
        )
        return bound_series(samples, own=1) or None

    def _directions(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for one in self._tally.destinations:
            labels = _labels(one)
            yield (*labels, "sent"), one.sent.bytes
            yield (*labels, "received"), one.received.bytes


def _labels(one: DestinationTally) -> tuple[str, str, str]:
    return one.protocol or ANY, _port_label(one), _target(one)


def _port_label(one: DestinationTally) -> str:
    if one.ports is None:
        return ANY
    first, last = one.ports
    return str(first) if first == last else f"{first}-{last}"


def _target(one: DestinationTally) -> str:
    if one.target_port is None:
        return str(one.address)
    return render_endpoint(one.address, one.target_port)


def _row(one: DestinationTally) -> dict[str, Any]:
    return {
        "port": _port_label(one),
        "protocol": one.protocol or ANY,
        "target": _target(one),
        "connections": one.connections,
        "sent_bytes": one.sent.bytes,
        "received_bytes": one.received.bytes,
    }
