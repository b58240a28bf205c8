"""The ports and names of the list that is in force, and how another list takes its place.

1. A port that leads where it led stays as it is: its sockets, its counts, what is known of its
   partners. One that leads elsewhere keeps its sockets too, so that no client is refused meanwhile.
2. Names that are new are looked up once before the lists change places; names that no line holds
   any more are followed no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from egress_router.config.dns_destination import Protocol
from egress_router.modes.dns.datagrams import DatagramPort
from egress_router.modes.dns.names import LOOKUPS_MAX, Name
from egress_router.modes.dns.port import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egress_router.config.dns import DnsTimes
    from egress_router.config.dns_destination import DnsDestination
    from egress_router.modes.dns.port import Shared
    from egress_router.net.resolver import Resolver
    from egress_router.plan.ended_flow import EndedFlow
    from egress_router.service.tasks import Tasks

LEARN_S = 5.0  # new names that nobody answers for do not hold the others up for longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What became of the lines that do not stay as they were.

    `added`, `moved` and `removed` are ports; `revoked` says of both protocols what no longer leads
    where it led: `{("udp", 53)}`.
    """

    added: tuple[Port, ...]
    moved: tuple[Port, ...]
    removed: tuple[Port, ...]
    revoked: frozenset[tuple[str, int]]


class Roster:
    """`settle` is called for a port whose name has changed, `touch` for the kernel's path."""

    def __init__(
        self,
        shared: Shared,
        times: DnsTimes,
        *,
        settle: Callable[[Port], None],
        touch: Callable[[], None],
    ) -> None:
        self.names: dict[str, Name] = {}
        self.ports: tuple[Port, ...] = ()
        self.datagrams: tuple[DatagramPort, ...] = ()
        self._shared = shared
        self._times = times
        self._settle = settle
        self._touch = touch
        self._destinations: dict[tuple[str, int], DnsDestination] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)

    def name_all(self, destinations: Iterable[DnsDestination]) -> dict[str, Name]:
        """A name for each host of a list: those that there are, and new ones."""
        names: dict[str, Name] = {}
        for one in destinations:
            text = str(one.host)
            literal = None if isinstance(one.host, str) else one.host
            if text not in names:
                known = self.names.get(text)
                names[text] = known or Name(text, self._shared.outside, literal=literal)
        return names

    def follow(self, names: Iterable[Name], resolver: Resolver, tasks: Tasks) -> None:
        """Begins to look names up, and goes on as long as a line holds them."""
        for name in names:
            if name.literal is None and name.text not in self._tasks:
                follow = name.follow(resolver, self._lookups)
                self._tasks[name.text] = tasks.start_vital(f"dns name {name.text}", follow)

    async def learn(self, names: dict[str, Name], resolver: Resolver, tasks: Tasks) -> None:
        """Has the new ones looked up once, for no longer than LEARN_S."""
        new = [name for text, name in names.items() if text not in self.names]
        for name in new:
            name.judge_again()
        self.follow(new, resolver, tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEARN_S):
                for name in new:
                    await name.looked_up.wait()
        for name in new:
            name.judge_again()  # the router may have changed meanwhile

    def forget(self, names: Iterable[Name], tasks: Tasks) -> None:
        """Follows names no longer."""
        for name in names:
            task = self._tasks.pop(name.text, None)
            if task is not None:
                tasks.dismiss(task)

    def replace(self, destinations: Iterable[DnsDestination], names: dict[str, Name]) -> Replaced:
        """Puts a list in force, all of it in one step; the caller settles the ports."""
        before = {port.destination.port: port for port in self.ports}
        led = {_key(one.destination): _lead(one.destination) for one in self._lines()}
        ports: list[Port] = []
        added, moved = [], []
        datagrams = []
        for one in destinations:
            name = names[str(one.host)]
            if one.protocol is Protocol.UDP:
                datagrams.append(DatagramPort(one, name, self._shared))
                continue
            port = before.pop(one.port, None)
            if port is None:
                port = Port(one, name, self._shared, self._times, probed=self._touch)
                added.append(port)
            elif _lead(port.destination) != _lead(one):
                port.lead_to(one, name)
                moved.append(port)
            else:
                port.destination = one  # its line may be another one
            ports.append(port)
        for port in before.values():
            port.remove()
        self.names, self.ports, self.datagrams = names, tuple(ports), tuple(datagrams)
        self._listen_to_names()
        self._destinations = {_key(one.destination): one.destination for one in self._lines()}
        leads = {key: _lead(one) for key, one in self._destinations.items()}
        return Replaced(
            added=tuple(added),
            moved=tuple(moved),
            removed=tuple(before.values()),
            revoked=frozenset(key for key, lead in led.items() if leads.get(key) != lead),
        )

    def describe(self, flow: EndedFlow) -> dict[str, Any]:
        """What the list in force says of a connection that the kernel has carried."""
        one = self._destinations.get((flow.protocol, flow.port))
        return {"target": f"{one.host}:{one.target_port}", "rule": one.line} if one else {}

    def _listen_to_names(self) -> None:
        for name in self.names.values():
            name.followers = []
        for port in self.ports:
            port.name.followers.append(partial(self._settle, port))
        for datagram in self.datagrams:
            datagram.name.followers.append(self._touch)

    def _lines(self) -> tuple[Port | DatagramPort, ...]:
        return (*self.ports, *self.datagrams)


def _key(destination: DnsDestination) -> tuple[str, int]:
    return str(destination.protocol), destination.port


def _lead(destination: DnsDestination) -> tuple[str, int]:
    return str(destination.host), destination.target_port
