"""The source address on the outside link: announced again, watched, defended (RFC 5227 §2.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress_router.errors import KernelError
from egress_router.kernel.capability import observe_capabilities
from egress_router.service import events
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from egress_router.kernel.keeper import Look
    from egress_router.kernel.packets import Sighting
    from egress_router.kernel.station import Station
    from egress_router.plan.snapshot import Router
    from egress_router.service.daemon import Service

CONFLICT = "conflict"
DEFEND_S = 10.0  # DEFEND_INTERVAL, RFC 5227 §1.1
CALM_S = 30.0  # how long after the last sighting the address counts as undisputed again


class AddressGuard:
    """Follows the egress link as looks show it; does nothing without CAP_NET_RAW."""

    def __init__(self, announce_s: float, service: Service) -> None:
        self._announce_s = announce_s
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._station: Station | None = None
        self._router: Router | None = None
        self._place: tuple[str, str] | None = None
        self._announced_at = 0.0
        self._defended_at = -DEFEND_S
        self._sighted_at: float | None = None
        self._gateways: frozenset[str | None] = frozenset()  # by MAC; None: not known yet
        self.conflicts = 0
        self.may_watch = service.place.first and "CAP_NET_RAW" in observe_capabilities()

    def follow(self, look: Look) -> None:
        """Takes up the link that a look shows, and announces if it is time."""
        self._router = look.router
        self._gateways = frozenset(gateway.mac for gateway in look.gateways)
        sound = look.router is not None and look.mac is not None and not look.findings
        place = (look.router.egress, look.mac) if sound and look.router and look.mac else None
        if place != self._place:
            self._move(place)
        now = self._loop.time()
        if self._announce_s and now - self._announced_at >= self._announce_s:
            self._announce(now)
        if self._sighted_at is not None and now - self._sighted_at >= CALM_S:
            self._sighted_at = None
            self._service.readiness.hold(CONFLICT)

    def close(self) -> None:
        """Closes the sockets."""
        self._move(None)

    def _move(self, place: tuple[str, str] | None) -> None:
        if self._station is not None:
            for descriptor in self._station.filenos():
                self._loop.remove_reader(descriptor)
            self._station.close()
            self._station = None
        self._place = place
        if place is None:
            return
        if not self.may_watch:
            return
        from egress_router.kernel.station import Station  # noqa: PLC0415 - few daemons need it

        try:
            self._station = Station(*place)
        except KernelError:
            self._place = None  # the link went again between the look and now
            return
        for descriptor in self._station.filenos():
            self._loop.add_reader(descriptor, self._read)
        self._announced_at = 0.0

    def _announce(self, now: float) -> None:
        station, router = self._station, self._router
        if station is None or router is None:
            return
        self._announced_at = now
        try:
            station.announce(router.sources)
        except KernelError as error:
            log_event(events.ANNOUNCE_FAILED, link=router.egress, error=str(error))
            return
        for source in router.sources:
            log_event(events.ADDRESS_ANNOUNCED, address=str(source), link=router.egress)

    def _read(self) -> None:
        station, router = self._station, self._router
        if station is None or router is None:
            return
        try:
            sightings = station.read()
        except KernelError:
            self._move(None)  # the link is gone; the next look finds out
            return
        for sighting in sightings:
            # A gateway that proxies ARP answers our own announcements, also before it is known.
            proxied = sighting.answering and not self._gateways.isdisjoint({sighting.mac, None})
            if sighting.address in router.sources and not sighting.probing and not proxied:
                self._dispute(sighting, router)

    def _dispute(self, sighting: Sighting, router: Router) -> None:
        now = self._loop.time()
        self._sighted_at = now
        if now - self._defended_at < DEFEND_S:
            return
        self._defended_at = now
        self.conflicts += 1
        log_event(
            events.ADDRESS_CONFLICT,
            address=str(sighting.address),
            link=router.egress,
            holder=sighting.mac,
        )
        self._service.readiness.fail(
            CONFLICT, f"{sighting.address} is also used by {sighting.mac} on {router.egress}"
        )
        self._announce(now)
