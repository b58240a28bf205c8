"""The daemon's parts and their life: names that are followed, ports that open and close.

1. A port listens on the loopback and on the cluster's link, in both families; never on the egress
   link. All ports are tried at the start: one that is taken or not permitted ends the daemon.
2. Ready means: the network is as init set it up, every port could be opened, and at least one has
   something behind it. A DNS outage after that changes nothing.
3. The end: not ready at once; listeners stay for LINGER_S, because the cluster takes a moment to
   send new connections elsewhere; then what is open may end, until the drain time is over.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from egress_router.config.dns import Datapath
from egress_router.modes.dns.kernel_path import KernelPath, decide_kernel
from egress_router.modes.dns.outside import Outside
from egress_router.modes.dns.port import LOOPBACK, Shared, bind_port
from egress_router.modes.dns.reloading import Reloading, revoke_connections
from egress_router.modes.dns.report import provide_report
from egress_router.modes.dns.roster import Roster
from egress_router.net.listen import Admission, connection_limit
from egress_router.net.poller import Poller
from egress_router.net.relay import Carrier
from egress_router.net.resolver import Resolver, ResolverSettings
from egress_router.service.flow_records import FlowRecords
from egress_router.service.network import NetworkWatch
from egress_router.service.process import raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from egress_router.config.dns import DnsConfig
    from egress_router.modes.dns.datagrams import DatagramPort
    from egress_router.modes.dns.ledger import Dials
    from egress_router.modes.dns.names import Name
    from egress_router.modes.dns.port import Connection, Port
    from egress_router.net.binding import Bound
    from egress_router.plan.forwards import Forward
    from egress_router.service.daemon import Service

LINGER_S = 2.0
LISTENER = "listener"
DESTINATIONS = "destinations"
SETTLE_BATCH = 16  # ports opened or closed in one turn of the loop: 4 sockets each, some 4 ms
SOCKETS_PER_PORT = 5  # two links, two families, and the listener's reserve
UNKNOWN_SHOWN = 3


class Serving:
    """One forwarder."""

    def __init__(self, config: DnsConfig, service: Service) -> None:
        self._config = config
        self._service = service
        self._loop = asyncio.get_running_loop()
        kernel = decide_kernel(config)
        self._watch = NetworkWatch(service, looked=self._looked, forwards=kernel)
        self._path = KernelPath(self._watch, service, self._forwards) if kernel else None
        self._resolver = Resolver(ResolverSettings(serve_stale=True))
        poller = Poller(self._loop)
        self._shared = Shared(
            outside=Outside(),
            carrier=Carrier(poller, idle_s=config.times.idle_s),
            admission=Admission(self._admitted(), service.loads),
            log=service.connection_log,
            loop=self._loop,
            open_port=self._open_port,
            id_prefix=service.place.id_prefix,
        )
        check_s = config.times.check_of(kernel=kernel)
        self._times = dataclasses.replace(config.times, check_s=check_s)
        self.roster = Roster(self._shared, self._times, settle=self._settle_soon, touch=self._touch)
        self.roster.replace(config.destinations, self.roster.name_all(config.destinations))
        self._records = FlowRecords(service, self.roster.describe) if kernel else None
        self._due: dict[Port, None] = {}

    async def open(self) -> None:
        """Follows the names and opens the ports whose names are known."""
        self._service.lifecycle.drain_s = self._config.times.drain_s
        for condition in (LISTENER, DESTINATIONS):
            self._service.readiness.declare(condition)
        provide_report(self._service, self)
        await self._watch.open()
        self.try_ports(port.destination.port for port in self.ports if not port.is_open)
        if self._path is not None:
            self._path.open()
        if self._records is not None:
            await self._records.open()
        self.roster.follow(self.names.values(), self._resolver, self._service.tasks)
        self._service.reload.open(Reloading(self), self._config)

    async def drain(self) -> None:
        """Returns when the last connection has ended."""
        await asyncio.sleep(min(LINGER_S, self._config.times.drain_s / 2))
        self._close_ports()
        if self._path is not None:
            await self._path.close()
        await self._shared.admission.wait_empty()

    async def close(self) -> None:
        """Ends what is still open, each with its line in the log."""
        self._close_ports()
        self._service.listening.end()
        if self._path is not None:
            await self._path.close()
        if self._records is not None:
            self._records.close()
        self._watch.close()
        for connection in tuple(self._shared.dialling):
            connection.cut()
        self._shared.carrier.close()
        self._shared.carrier.poller.close()
        await self._resolver.close()
        self._shared.outside.close()
        await asyncio.sleep(0)  # relays that ended as they began are told of by the next turn

    def try_ports(self, ports: Iterable[int]) -> None:
        """Whether these ports may be opened; raises KernelError."""
        router = self._watch.router
        if router is None:
            return
        for port in ports:
            self._service.listening.try_open(bind_port(port, (LOOPBACK, router.cluster)))

    async def replace(self, config: DnsConfig) -> int:
        """Puts another list in force; how many connections it ended."""
        roster, shared = self.roster, self._shared
        names = roster.name_all(config.destinations)
        await roster.learn(names, self._resolver, self._service.tasks)
        gone = [name for text, name in roster.names.items() if text not in names]
        replaced = roster.replace(config.destinations, names)
        roster.forget(gone, self._service.tasks)
        self._config = config
        shared.admission.limit = self._admitted()
        for port in replaced.removed:
            self._due.pop(port, None)
        for port in (*replaced.added, *replaced.moved):
            self._settle_soon(port)
        ended = revoke_connections(shared, replaced)
        if self._path is not None:
            ended += await self._path.revoke(replaced.revoked)
        return ended

    @property
    def names(self) -> dict[str, Name]:
        """The names of the list, by their text."""
        return self.roster.names

    @property
    def ports(self) -> tuple[Port, ...]:
        """The TCP ports of the list."""
        return self.roster.ports

    @property
    def datagrams(self) -> tuple[DatagramPort, ...]:
        """The UDP ports of the list."""
        return self.roster.datagrams

    @property
    def path_name(self) -> str:
        """Who carries the bytes."""
        return Datapath.USERSPACE if self._path is None else Datapath.KERNEL

    @property
    def admission(self) -> Admission:
        """How many connections are open, and how many may be."""
        return self._shared.admission

    @property
    def carried(self) -> Collection[Connection]:
        """The connections that are open."""
        return self._shared.carried

    @property
    def dials(self) -> Dials:
        """How long connections to partners took."""
        return self._shared.dials

    @property
    def resolver(self) -> Resolver:
        """What the names are looked up with."""
        return self._resolver

    def _forwards(self) -> tuple[Forward, ...]:
        """What the kernel may carry by itself now."""
        ports: tuple[Port | DatagramPort, ...] = (*self.ports, *self.datagrams)
        return tuple(filter(None, (port.forward() for port in ports)))

    def _touch(self) -> None:
        if self._path is not None:
            self._path.touch()

    def _admitted(self) -> int:
        sockets = SOCKETS_PER_PORT * len(self._config.destinations)
        limit = max(raise_descriptor_limit() - sockets, 2)
        return connection_limit(limit, self._service.place.share_of(self._config.connections))

    def _open_port(self, port: int, again: Callable[[], object]) -> Bound | None:
        def come() -> None:
            again()
            if not self._due:
                self._report()

        links = (LOOPBACK, self._shared.cluster)
        return self._service.listening.open(bind_port(port, links), come)

    def _looked(self) -> None:
        """The network has been looked at: follows the router, and opens or closes the ports."""
        router, shared = self._watch.router, self._shared
        if router is None:
            return
        changed = shared.outside.follow(router)
        before, shared.trouble = shared.trouble, shared.outside.trouble()
        shared.cluster = router.cluster
        if before and not shared.trouble:
            for port in self.ports:
                port.partners.forget()
        if changed:
            for name in self.names.values():
                name.judge_again()
        if changed or before != shared.trouble:
            for port in self.ports:
                self._settle_soon(port)
        self._touch()
        if not self._due:
            self._report()

    def _settle_soon(self, port: Port) -> None:
        if not self._due:
            self._loop.call_soon(self._settle_some)
        self._due[port] = None

    def _settle_some(self) -> None:
        for port in tuple(self._due)[:SETTLE_BATCH]:
            del self._due[port]
            port.settle()
        self._touch()
        if self._due:
            self._loop.call_soon(self._settle_some)
        else:
            self._report()

    def _report(self) -> None:
        """Says whether the mode can do its work (rule 2)."""
        faults = [port.fault for port in self.ports if port.fault]
        unknown = [name for name in self.names.values() if not name.addresses]
        reason = None
        if len(unknown) == len(self.names):
            shown = [f"{name.text}: {name.detail}" for name in unknown[:UNKNOWN_SHOWN]]
            reason = f"no destination is known; {'; '.join(shown)}"
        self._service.readiness.update({LISTENER: "; ".join(faults) or None, DESTINATIONS: reason})

    def _close_ports(self) -> None:
        self._shared.draining = True
        for port in self.ports:
            port.close()
