"""The kernel's data path: which addresses new connections go to, written where the kernel looks.

1. The daemon resolves and probes; the kernel picks among what is left and carries the bytes. For
   what it cannot carry, an IPv6 client of an IPv4 partner, the daemon's own listeners stay.
2. The table is replaced in one transaction whenever it would change, at most every SETTLE_S; it is
   loaded again when somebody flushed it. Connections that are open stay where they are.
3. It goes when the daemon stops to accept: then new connections are refused, open ones live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from egress_router.config.dns import Datapath
from egress_router.config.dns_destination import Protocol
from egress_router.errors import KernelError
from egress_router.kernel.capability import observe_capabilities
from egress_router.kernel.host import observe_forwarding6
from egress_router.plan.forwards import (
    Forward,
    ForwardJudge,
    RevokedForwards,
    render_forwards,
)
from egress_router.service import events
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.config.dns import DnsConfig
    from egress_router.plan.snapshot import Router
    from egress_router.service.daemon import Service
    from egress_router.service.network import NetworkWatch

CONDITION = "datapath"
SETTLE_S = 0.02  # a burst of changed names becomes one transaction
RETRY_S = 1.0
_CAPABILITY = "CAP_NET_ADMIN"


def decide_kernel(config: DnsConfig) -> bool:
    """Whether the kernel is to carry; raises KernelError where it must and the daemon may not."""
    may = _CAPABILITY in observe_capabilities()
    udp = any(one.protocol is Protocol.UDP for one in config.destinations)
    if config.datapath is Datapath.KERNEL or (config.datapath is Datapath.AUTO and udp):
        if not may:
            raise KernelError(
                "use the kernel's data path" + (", which udp takes" if udp else ""),
                f"{_CAPABILITY} missing",
                remedy="give the daemon the capability NET_ADMIN, or set "
                "EGRESS_DNS_PROXY_DATAPATH=userspace",
            )
        return True
    return config.datapath is Datapath.AUTO and may


class KernelPath:
    """Keeps the table as `forwards` says."""

    def __init__(
        self,
        watch: NetworkWatch,
        service: Service,
        forwards: Callable[[], tuple[Forward, ...]],
    ) -> None:
        self._watch = watch
        self._service = service
        self._forwards = forwards
        self._stale = asyncio.Event()
        self._closed = False
        self._loaded: tuple[Router, tuple[Forward, ...]] | None = None
        self._revoked: frozenset[tuple[str, int]] = frozenset()
        self._changing = asyncio.Lock()
        self._six = observe_forwarding6()

    def open(self) -> None:
        """Begins to keep it."""
        self._service.readiness.declare(CONDITION)
        self._service.tasks.start_vital("kernel data path", self._serve())
        self._stale.set()

    def touch(self) -> None:
        """Something may have changed: names, partners, the network, or the ruleset."""
        self._stale.set()

    async def revoke(self, ports: frozenset[tuple[str, int]]) -> int:
        """Ends connections to ports whose lines are gone or lead elsewhere; how many there were.

        The table is brought up to date first. If it cannot be loaded it is tried again as ever, and
        they end when it is.
        """
        self._revoked |= ports
        try:
            return await self._bring_up_to_date()
        except KernelError:
            self._stale.set()
            return 0

    async def close(self) -> None:
        """Takes the table away."""
        self._closed = True
        if self._loaded is None:
            return
        with contextlib.suppress(KernelError):  # there is nobody left to do anything about it
            await self._watch.in_kernel(lambda keeper: keeper.remove_forwards())
        self._loaded = None

    async def _serve(self) -> None:
        while True:
            await self._stale.wait()
            await asyncio.sleep(SETTLE_S)
            self._stale.clear()
            try:
                await self._bring_up_to_date()
            except KernelError as error:
                self._service.readiness.fail(CONDITION, str(error))
                log_event(events.DNS_TABLE_FAILED, error=str(error))
                await asyncio.sleep(RETRY_S)
                self._stale.set()
            else:
                self._service.readiness.hold(CONDITION)

    async def _bring_up_to_date(self) -> int:
        """How many connections of revoked lines were ended."""
        async with self._changing:
            router = self._watch.router
            if router is None or self._closed:
                return 0
            forwards = tuple(filter(None, map(self._possible, self._forwards())))
            if (router, forwards) != self._loaded:
                text = render_forwards(router.cluster, forwards)
                judge = ForwardJudge(forwards, local=router.cluster_addresses)
                await self._watch.in_kernel(lambda keeper: keeper.put_forwards(text, judge))
                self._loaded = (router, forwards)
                log_event(events.DNS_TABLE_LOADED, ports=len(forwards))
            elif await self._watch.in_kernel(lambda keeper: keeper.keep_forwards()):
                log_event(events.DNS_TABLE_LOADED, ports=len(forwards))
            if not self._revoked:
                return 0
            revoked = RevokedForwards(self._revoked, forwards, local=router.cluster_addresses)
            ended = await self._watch.in_kernel(lambda keeper: keeper.forget(revoked))
            self._revoked = frozenset()
            return ended

    def _possible(self, forward: Forward) -> Forward | None:
        """What of a forward this namespace can carry: IPv6 only where forwarding is on for it."""
        if self._six:
            return forward
        four = forward.of(4)
        return dataclasses.replace(forward, addresses=four) if four else None
