"""Which tracked connections contradict the ruleset, and so must be forgotten (conntrack).

Conntrack keeps a flow's translation for as long as packets come: a UDP client with a fixed source
port would be sent to its old destination for ever, whatever the table says now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.config.destinations import Destinations, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress_router.config.addresses import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One tracked connection: the packet that opened it, and who answers to whom.

    Without translation `answers` is the destination and `answers_to` the source.
    """

    protocol: Protocol
    source: Address
    source_port: int
    destination: Address
    destination_port: int
    answers: Address
    answers_port: int
    answers_to: Address
    answers_to_port: int


class FlowJudge:
    """Compares flows with a ruleset's destinations.

    `local`: the pod's addresses on the cluster link. `sources`: the reserved addresses.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        local: Iterable[Address],
        sources: Iterable[Address],
        admin_port: int | None,
    ) -> None:
        self._local = frozenset(local)
        self._sources = frozenset(sources)
        self._admin_port = admin_port
        self._ports: dict[tuple[Protocol, int, int], tuple[Address, int]] = {}
        for rule in destinations.rules:
            for port in range(rule.first, rule.last + 1):
                key = (rule.protocol, rule.address.version, port)
                self._ports[key] = (rule.address, rule.target_port or port)
        self._fallbacks = {f.address.version: f.address for f in destinations.fallbacks}

    def contradicts(self, flow: Flow) -> bool:
        """Whether the table would translate the flow otherwise if it came in anew."""
        if flow.destination not in self._local or flow.source in self._local:
            return False
        target = self._target(flow)
        if target != (flow.answers, flow.answers_port):
            return True
        return target[0] != flow.destination and flow.answers_to not in self._sources

    def _target(self, flow: Flow) -> tuple[Address, int]:
        unchanged = (flow.destination, flow.destination_port)
        if flow.protocol is Protocol.TCP and flow.destination_port == self._admin_port:
            return unchanged
        key = (flow.protocol, flow.destination.version, flow.destination_port)
        if key in self._ports:
            return self._ports[key]
        fallback = self._fallbacks.get(flow.destination.version)
        if fallback is None or flow.protocol is Protocol.SCTP:
            return unchanged
        return (fallback, flow.destination_port)
