"""The redirect daemon: the kernel moves the bytes; this keeps the NAT alive and says how it is.

1. Every change of links, addresses, routes or rules wakes it; beside that it looks every
   EGRESS_WATCH_SECONDS, which is how it notices a flushed table (the canary).
2. With CAP_NET_ADMIN it repairs what drifted and logs what it repaired. Without, it turns not ready
   and names what is wrong.
3. With CAP_NET_RAW it announces the address at an interval, and watches for another station that
   uses it: that is an alarm, and defended at most once in ten seconds (RFC 5227 §2.4 (b)).
4. Its end changes nothing: the NAT lives in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from egress_router.config.init import ClaimConfig
from egress_router.config.redirect import RedirectConfig, parse_redirect
from egress_router.errors import KernelError
from egress_router.modes.redirect_station import AddressGuard
from egress_router.plan.drift import KINDS
from egress_router.service import events, metrics
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.kernel.keeper import Keeper, Look
    from egress_router.plan.drift import Finding
    from egress_router.service.daemon import Service

SETTLE_S = 0.02  # a burst of netlink events, such as a link going down, becomes one look
SETUP = "setup"
_COUNTERS = {"received": "rx", "sent": "tx"}
# A daemon's repair asks once whether the address is free, and does not wait for a holder.
_CLAIM = ClaimConfig(takeover=False, timeout_s=0.0, probe_s=0.6)


class RedirectMode:
    """The mode `redirect`."""

    name = "redirect"

    def parse(self, environment: Environment) -> RedirectConfig:
        """The mode's configuration."""
        return parse_redirect(environment)

    async def serve(self, config: RedirectConfig, service: Service) -> None:
        """Keeps watch until the daemon is to end."""
        watch = _Watch(config, service)
        try:
            await watch.serve()
        finally:
            await watch.close()


class _Watch:
    """The daemon's state: the last look, what was logged of it, and the counts."""

    def __init__(self, config: RedirectConfig, service: Service) -> None:
        self._config = config
        self._service = service
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._keeper: Keeper | None = None
        self._guard = AddressGuard(config.announce_s, service)
        self._look: Look | None = None
        self._changed = asyncio.Event()
        self._told: frozenset[Finding] = frozenset()
        self._failure: str | None = None
        self._repairs = dict.fromkeys(KINDS, 0)

    async def serve(self) -> None:
        for name in (SETUP, *KINDS):
            self._service.readiness.declare(name)
        loop = asyncio.get_running_loop()
        self._keeper = await loop.run_in_executor(self._thread, self._open_keeper)
        self._provide()
        from egress_router.kernel.signs import (  # noqa: PLC0415 (pulls in no pyroute2, but late)
            drain_route_watch,
            open_route_watch,
        )

        watch = open_route_watch()

        def changed() -> None:
            drain_route_watch(watch)
            self._changed.set()

        loop.add_reader(watch.fileno(), changed)
        try:
            await self._take_a_look()
            if self._look is not None and self._look.router is not None:
                await self._service.open_admin_port(self._look.router.cluster_addresses)
            self._service.started()
            await self._keep_looking()
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()

    async def close(self) -> None:
        """Lets go of the kernel; a call that hangs there does not hold the daemon up."""
        self._guard.close()
        keeper = self._keeper
        if keeper is not None:
            with contextlib.suppress(RuntimeError):
                self._thread.submit(keeper.close)
        self._thread.shutdown(wait=False)

    def _open_keeper(self) -> Keeper:
        # Imported in the thread: pyroute2 takes a quarter of a second, aiohttp another meanwhile.
        from egress_router.kernel.host import observe_nameservers  # noqa: PLC0415
        from egress_router.kernel.keeper import Keeper  # noqa: PLC0415

        config = self._config.init
        return Keeper(
            config=config,
            interface=self._config.interface,
            nameservers=observe_nameservers(),
            claim=config.claim if config else _CLAIM,
        )

    async def _keep_looking(self) -> None:
        stopping = asyncio.ensure_future(self._service.stopping.wait())
        try:
            while not stopping.done():
                woken = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait(
                    {stopping, woken},
                    timeout=self._config.watch_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                woken.cancel()
                if stopping.done():
                    return
                if self._changed.is_set():
                    await asyncio.sleep(SETTLE_S)
                await self._take_a_look()
        finally:
            stopping.cancel()

    async def _take_a_look(self) -> None:
        self._changed.clear()
        assert self._keeper is not None  # noqa: S101 (opened before the first look)
        loop = asyncio.get_running_loop()
        try:
            look = await loop.run_in_executor(self._thread, self._keeper.look)
        except KernelError as error:
            self._service.readiness.fail(SETUP, str(error))
            return
        self._look = look
        self._tell(look)
        self._guard.follow(look)

    def _tell(self, look: Look) -> None:
        readiness = self._service.readiness
        if look.reason is not None:
            readiness.fail(SETUP, look.reason)
            return
        found = {kind: [f.detail for f in look.findings if f.kind == kind] for kind in KINDS}
        for finding in (*look.repaired, *look.findings):
            if finding not in self._told:
                log_event(events.DRIFT_FOUND, kind=finding.kind, detail=finding.detail)
        for finding in look.repaired:
            self._repairs[finding.kind] += 1
            log_event(
                events.DRIFT_REPAIRED,
                kind=finding.kind,
                detail=finding.detail,
                repaired_by="this daemon",
            )
        for finding in self._told - {*look.findings, *look.repaired}:
            log_event(
                events.DRIFT_REPAIRED,
                kind=finding.kind,
                detail=finding.detail,
                repaired_by="others",
            )
        if look.failure is not None and look.failure != self._failure:
            kinds = ", ".join(dict.fromkeys(finding.kind for finding in look.findings))
            details = "; ".join(finding.detail for finding in look.findings)
            log_event(events.REPAIR_FAILED, kind=kinds, detail=details, error=look.failure)
        self._told, self._failure = frozenset(look.findings), look.failure
        for kind in KINDS:
            if found[kind]:
                readiness.fail(kind, "; ".join(found[kind]))
            else:
                readiness.hold(kind)
        readiness.hold(SETUP)

    def _provide(self) -> None:
        self._service.provide_status(self._status)
        provide = self._service.metrics.provide
        provide(metrics.LINK_BYTES, lambda: self._link_counters("bytes"))
        provide(metrics.LINK_PACKETS, lambda: self._link_counters("packets"))
        provide(metrics.NAT_PACKETS, lambda: {(k,): v[0] for k, v in self._nat().items()})
        provide(metrics.NAT_BYTES, lambda: {(k,): v[1] for k, v in self._nat().items()})
        provide(metrics.REPAIRS, lambda: {(k,): v for k, v in self._repairs.items()})
        provide(metrics.ADDRESS_CONFLICTS, lambda: self._guard.conflicts)

    def _nat(self) -> dict[str, tuple[int, int]]:
        return self._look.nat if self._look else {}

    def _link_counters(self, unit: str) -> dict[tuple[str, ...], int]:
        link = self._look.link if self._look else {}
        return {
            (direction,): link[f"{prefix}_{unit}"]
            for direction, prefix in _COUNTERS.items()
            if f"{prefix}_{unit}" in link
        }

    def _status(self) -> dict[str, Any]:
        look, keeper = self._look, self._keeper
        router = look.router if look else None
        if look is None or router is None or keeper is None:
            return {}
        return {
            "source": ", ".join(map(str, router.sources)),
            "gateway": ", ".join(map(str, router.gateways)),
            "link": f"{router.egress} ({look.mac})" if look.mac else router.egress,
            "cluster_link": router.cluster,
            "repairs": "on" if keeper.may_repair else "off: needs CAP_NET_ADMIN",
            "traffic": dict(look.link),
            "nat": {name: {"packets": p, "bytes": b} for name, (p, b) in look.nat.items()},
        }
