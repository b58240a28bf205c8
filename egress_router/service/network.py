"""Watches the pod's network for a daemon: readiness, repair where permitted, metrics, status.

1. Every change of links, addresses, routes or rules wakes it; beside that it looks every
   EGRESS_WATCH_SECONDS, which is how it notices a flushed table (the canary).
2. With CAP_NET_ADMIN it repairs what drifted and logs what it repaired. Without, the daemon turns
   not ready and names what is wrong.
3. The kernel is asked from one thread of its own: pyroute2 and libnftables block.
4. Of several processes each looks, to follow the router; the first one alone judges and repairs.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from egress_router.config.init import ClaimConfig
from egress_router.errors import KernelError
from egress_router.plan.drift import KINDS
from egress_router.service import events, metrics
from egress_router.service.address_guard import AddressGuard
from egress_router.service.logs import log_event
from egress_router.service.traffic import TrafficReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.config.init import InitConfig
    from egress_router.kernel.keeper import Keeper, Look
    from egress_router.kernel.traffic import Traffic
    from egress_router.plan.drift import Finding
    from egress_router.plan.snapshot import Router
    from egress_router.service.daemon import Service

T = TypeVar("T")

SETTLE_S = 0.02  # a burst of netlink events, such as a link going down, becomes one look
SETUP = "setup"
# A daemon's repair asks once whether the address is free, and does not wait for a holder. It asks
# longer than init does by default: nobody waits for it, or listens afterwards for who objects.
_PROBE_S = 0.6
_CLAIM = ClaimConfig(takeover=False, timeout_s=0.0, probe_s=_PROBE_S)


class NetworkWatch:
    """One daemon's view of the pod's network.

    `init` is init's configuration where the daemon has it: then that is what is kept, else what the
    first sound look finds. `announce_s` 0: the address is not announced again. `looked` is called
    after each look. `forwards`: the kernel is to forward for the mode, and the daemon may say so.
    """

    def __init__(
        self,
        service: Service,
        *,
        init: InitConfig | None = None,
        announce_s: float = 0.0,
        looked: Callable[[], None] = lambda: None,
        forwards: bool = False,
    ) -> None:
        self._service = service
        self._init = init
        self._looked = looked
        self._forwards = forwards
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._keeper: Keeper | None = None
        self._guard = AddressGuard(announce_s, service)
        self._look: Look | None = None
        self._traffic: TrafficReport | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told: frozenset[Finding] = frozenset()
        self._failure: str | None = None
        self._repairs = dict.fromkeys(KINDS, 0)

    @property
    def router(self) -> Router | None:
        """Links, sources, gateways, cluster addresses as last seen; None if init has not run."""
        return self._look.router if self._look else None

    @property
    def may_repair(self) -> bool:
        """Whether this daemon may change the network; only once `open` has returned."""
        return self._keeper is not None and self._keeper.may_repair

    @property
    def sound(self) -> bool:
        """Whether the last look found everything as it should be."""
        look = self._look
        return look is not None and look.reason is None and not look.findings

    @property
    def trouble(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        look = self._look
        if look is None:
            return "the network was not looked at yet"
        return look.reason or "; ".join(finding.detail for finding in look.findings)

    async def open(self) -> None:
        """Takes the first look, then keeps looking in a task of its own.

        Opens the admin port, if there is to be one, on the loopback and the cluster addresses that
        the look finds.
        """
        for name in (SETUP, *KINDS) if self._service.place.first else (SETUP,):
            self._service.readiness.declare(name)
        loop = asyncio.get_running_loop()
        self._keeper = await loop.run_in_executor(self._thread, self._open_keeper)
        self._provide(self._keeper)
        self._traffic = TrafficReport(self._service, self._read_traffic)
        await self._take_a_look(self._keeper)
        if (router := self.router) is not None:
            # The loopback is where `kubectl port-forward` calls.
            loopbacks = [address for address in router.own_addresses if address.is_loopback]
            self._service.open_admin_port((*router.cluster_addresses, *loopbacks))
        self._task = self._service.tasks.start_vital("network watch", self._serve(self._keeper))

    async def in_kernel(self, work: Callable[[Keeper], T]) -> T:
        """Has something done in the kernel's thread; raises what it raises.

        Only once `open` has returned.
        """
        assert self._keeper is not None  # noqa: S101 (see above)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._keeper)

    def close(self) -> None:
        """Lets go of the kernel; a call that hangs there does not hold the daemon up."""
        self._guard.close()
        if self._task is not None:  # it may be about to look, and there is nothing to look with
            self._service.tasks.dismiss(self._task)
        if self._keeper is not None:
            with contextlib.suppress(RuntimeError):
                self._thread.submit(self._keeper.close)
        self._thread.shutdown(wait=False)

    def _open_keeper(self) -> Keeper:
        # Imported in the thread: pyroute2 takes a tenth of a second, and aiohttp another meanwhile.
        from egress_router.kernel.host import observe_nameservers  # noqa: PLC0415
        from egress_router.kernel.keeper import Keeper  # noqa: PLC0415

        return Keeper(
            config=self._init,
            interface=self._service.config.interface,
            nameservers=observe_nameservers(),
            claim=self._decide_claim(),
            forwards=self._forwards,
            repairs=self._service.place.first,
        )

    def _decide_claim(self) -> ClaimConfig:
        if self._init is None:
            return _CLAIM
        claim = self._init.claim
        return replace(claim, probe_s=max(claim.probe_s, _PROBE_S))

    async def _serve(self, keeper: Keeper) -> None:
        from egress_router.kernel.signs import (  # noqa: PLC0415 (see _open_keeper)
            drain_route_watch,
            open_route_watch,
        )

        loop = asyncio.get_running_loop()
        watch = open_route_watch()

        def changed() -> None:
            drain_route_watch(watch)
            self._changed.set()

        loop.add_reader(watch.fileno(), changed)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._service.config.watch_s):
                        await self._changed.wait()
                    await asyncio.sleep(SETTLE_S)
                self._changed.clear()
                await self._take_a_look(keeper)
                if self._failure is not None:
                    # A repair that fails and is undone wakes the watch by its own changes.
                    await asyncio.sleep(self._service.config.watch_s)
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()

    async def _take_a_look(self, keeper: Keeper) -> None:
        loop = asyncio.get_running_loop()
        try:
            look = await loop.run_in_executor(self._thread, keeper.look)
        except KernelError as error:
            self._service.readiness.fail(SETUP, str(error))
            return
        self._look = look
        self._tell(look)
        self._guard.follow(look)
        self._looked()

    def _tell(self, look: Look) -> None:
        readiness = self._service.readiness
        if look.reason is not None:
            readiness.fail(SETUP, look.reason)
            return
        if not self._service.place.first:
            readiness.hold(SETUP)
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
        readiness.update({SETUP: None, **{k: "; ".join(found[k]) or None for k in KINDS}})

    def _provide(self, keeper: Keeper) -> None:
        self._service.provide_status(lambda: self._status(keeper))
        self._service.provide_warnings(self._warnings)
        provide = self._service.metrics.provide
        provide(metrics.REPAIRS, lambda: {(k,): v for k, v in self._repairs.items()})
        provide(metrics.ADDRESS_CONFLICTS, lambda: self._guard.conflicts)

    async def _read_traffic(self) -> Traffic | None:
        return await self.in_kernel(lambda keeper: keeper.observe_traffic())

    def _warnings(self) -> tuple[str, ...]:
        look, router = self._look, self.router
        if look is None or router is None or not self.sound:
            return ()
        return tuple(
            f"gateway {one.address} does not answer on {router.egress}: nothing gets out. "
            "Run `egress-router doctor`"
            for one in look.gateways
            if one.silent
        )

    def _status(self, keeper: Keeper) -> dict[str, Any]:
        look, router = self._look, self.router
        if look is None or router is None:
            return {}
        return {
            "source": ", ".join(map(str, router.sources)),
            "gateway": ", ".join(map(str, router.gateways)),
            "link": f"{router.egress} ({look.mac})" if look.mac else router.egress,
            "gateways": [
                {"address": str(one.address), "mac": one.mac, "state": one.state}
                for one in look.gateways
            ],
            "cluster_link": router.cluster,
            "repairs": f"off: needs {keeper.lacks}" if keeper.lacks else "on",
            **(self._traffic.status() if self._traffic else {}),
            "conflict_watch": "on" if self._guard.may_watch else "off: needs CAP_NET_RAW",
        }
