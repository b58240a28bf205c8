"""From a target to a connected socket: judge, resolve once, judge the addresses, dial those.

1. Nothing is dialled that `decide_addresses` did not return; a retry dials the same addresses.
2. A decision on a resolved name holds as long as the answer's TTL; a new one is made after that,
   and after any change of the rules or of the router's own addresses.
3. A dial is preceded by a look at whether the egress link carries anything; on a busy proxy the
   look is up to 20 ms old. With the link down nothing is tried, for it could only fail later; and
   whatever fails later is told in the link's words if the link is down by then.
"""

from __future__ import annotations

import dataclasses
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.modes.http.failure import (
    failure_of_decision,
    failure_of_dial,
    failure_of_resolution,
    half_known,
    link_down,
)
from egress_router.net.dial import Dialler, DialLimits
from egress_router.net.dial_errors import DialError
from egress_router.net.egress import Egress, LinkProbe
from egress_router.net.health import Health
from egress_router.net.resolution import ResolutionError, Source
from egress_router.policy.guard import build_guard
from egress_router.policy.rules import Decision, NeedsAddresses, Policy, compile_rules
from egress_router.service.histogram import Histogram

if TYPE_CHECKING:
    import socket

    from egress_router.config.http import HttpConfig
    from egress_router.modes.http.failure import FailureError
    from egress_router.modes.http.ledger import Record
    from egress_router.net.dial import Dial, OnEnd
    from egress_router.net.poller import Poller
    from egress_router.net.resolver import Resolver
    from egress_router.plan.snapshot import Router
    from egress_router.policy.prefixes import IPAddress
    from egress_router.policy.target import Target

Times: TypeAlias = dict[tuple[str, ...], Histogram]  # by outcome

MEMORY_MAX: Final = 4096  # decisions remembered; clients choose the names


class Uplink:
    """The way out, shared by all connections of a daemon."""

    def __init__(self, config: HttpConfig, resolver: Resolver, poller: Poller) -> None:
        self.policy = compile_rules(config.rules)
        self._resolver = resolver
        self._link = LinkProbe()
        limits = DialLimits(dial_s=config.times.dial_s)
        self._dialler = Dialler(poller=poller, health=Health(), limits=limits)
        self._router: Router | None = None
        self._egress = Egress()
        self._remembered: dict[Target, tuple[Decision, float]] = {}
        self.dials: Times = {("connected",): Histogram(), ("failed",): Histogram()}
        self.lookups: Times = {("resolved",): Histogram(), ("failed",): Histogram()}

    def follow(self, router: Router) -> None:
        """Takes over a router that looks different from the last one."""
        if router == self._router:
            return
        self._router = router
        self._remembered.clear()
        own = (*router.own_addresses, *router.sources, *router.cluster_addresses)
        self.policy = dataclasses.replace(self.policy, guard=build_guard(own))
        sources = {source.version: source for source in router.sources}
        self._egress = Egress(
            source4=sources.get(4),  # type: ignore[arg-type]  # keyed by its own version
            source6=sources.get(6),  # type: ignore[arg-type]  # as above
            link=router.egress,
        )

    def replace_rules(self, policy: Policy) -> Policy:
        """Other rules from now on, behind the guard that is in force; returns both together."""
        self._remembered.clear()
        self.policy = dataclasses.replace(policy, guard=self.policy.guard)
        return self.policy

    def remembered(self, target: Target) -> Decision | None:
        """The decision on a target, as long as it is the one that `decide` would come to."""
        held = self._remembered.get(target)
        if held is None or time.monotonic() >= held[1]:
            return None
        return held[0]

    def allowed_now(self, target: Target) -> Decision | None:
        """The decision that allows a target, if it is known and something can leave."""
        decision = self.remembered(target)
        if decision is None or not decision.allowed or self._router is None:
            return None
        return decision if self._link.carried_lately(self._router.egress) else None

    async def decide(self, target: Target, record: Record) -> Decision:
        """The decision that allows a target; raises FailureError."""
        decision = self.remembered(target)
        if decision is None:
            decision = await self._decide(target)
        record.rule = decision.rule
        record.reason = decision.reason
        if not decision.allowed:
            raise failure_of_decision(decision)
        return decision

    async def connect(
        self, target: Target, decision: Decision, record: Record
    ) -> socket.SocketType:
        """A connection to one of the allowed addresses; raises FailureError."""
        if trouble := self.trouble():
            raise link_down(trouble)
        started = time.monotonic()
        try:
            sock = await self._dialler.dial(decision.addresses, target.port, self._egress)
        except DialError as error:
            self.note_dial(started, connected=False)
            raise self.failure_of(error) from error
        self.note_dial(started, connected=True)
        record.address = peer_of(sock, decision)
        return sock

    def start(
        self, decision: Decision, port: int, on_end: OnEnd, *, hold_ack: bool = False
    ) -> Dial:
        """The same without a task, where there is no `trouble`; see `Dialler.start`."""
        return self._dialler.start(
            decision.addresses, port, self._egress, on_end, hold_ack=hold_ack
        )

    def note_dial(self, started: float, *, connected: bool) -> None:
        """Counts a dial that began at that time (of `time.monotonic`)."""
        self.dials["connected" if connected else "failed",].note(time.monotonic() - started)

    def failure_of(self, error: DialError) -> FailureError:
        """What the client is told of a dial that came to nothing."""
        trouble = self.trouble()  # it may have gone down under our feet
        return link_down(trouble) if trouble else failure_of_dial(error)

    def trouble(self) -> str:
        """Why nothing can leave by the egress link, in words; empty if it can."""
        if self._router is None:
            return "init has not set this pod up"
        return self._link.trouble(self._router.egress)

    def close(self) -> None:
        """Lets go of what it holds of the system."""
        self._link.close()

    async def _decide(self, target: Target) -> Decision:
        settled = self.policy.decide_name(target)
        if not isinstance(settled, NeedsAddresses):
            self._remember(target, settled, float("inf"))
            return settled
        policy = self.policy
        started = time.monotonic()
        try:
            resolution = await self._resolver.resolve(settled.name.text)
        except ResolutionError as error:
            self.lookups["failed",].note(time.monotonic() - started)
            raise failure_of_resolution(error) from error
        if resolution.source is Source.DNS:
            self.lookups["resolved",].note(time.monotonic() - started)
        decision = policy.decide_addresses(target, resolution.addresses)
        failed = resolution.failed_families
        if failed and decision.allowed:
            hidden = policy.hidden_denial(decision, target.port, failed)
            if hidden is not None:
                raise half_known(settled.name.text, failed, hidden)
        if resolution.ttl_s > 0 and policy is self.policy:
            self._remember(target, decision, time.monotonic() + resolution.ttl_s)
        return decision

    def _remember(self, target: Target, decision: Decision, until: float) -> None:
        if len(self._remembered) >= MEMORY_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[target] = (decision, until)


def peer_of(sock: socket.SocketType, decision: Decision) -> IPAddress:
    """Which of the allowed addresses a socket is connected to."""
    if len(decision.addresses) == 1:
        return decision.addresses[0]
    return ip_address(sock.getpeername()[0].partition("%")[0])
