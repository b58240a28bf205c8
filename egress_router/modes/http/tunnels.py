"""The open tunnels of a daemon, and which of them the rules in force still allow.

1. A tunnel is judged by its target and the one address it leads to, as if its name had resolved to
   that address alone: nothing is looked up again.
2. A tunnel that new rules deny is cut at once; both ends see a reset, and its line says why.
3. Plain requests under way keep their verdict: they end by themselves. The next request of the same
   connection is judged by the new rules.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress_router.modes.http.ledger import Record
    from egress_router.modes.http.shared import Shared
    from egress_router.modes.http.shortcut import KnownTunnel
    from egress_router.net.relay import Relay, RelayEnd
    from egress_router.policy.rules import Policy

BATCH: Final = 200  # judged in one turn of the loop: some 20 µs each


class Tunnels:
    """Every tunnel from the moment a relay has it; `renew` puts other rules in force for them."""

    def __init__(self) -> None:
        self._open: dict[Record, Relay] = {}
        self._policy: Policy | None = None
        self._renewed_at = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    def add(self, record: Record, relay: Relay) -> None:
        """A tunnel is open; one that was asked for under older rules is judged again."""
        self._open[record] = relay
        if record.started <= self._renewed_at:
            self._judge(record, relay)

    def discard(self, record: Record) -> None:
        """A tunnel has ended."""
        self._open.pop(record, None)

    async def renew(self, policy: Policy) -> int:
        """Cuts what other rules deny; how many tunnels that were."""
        self._policy, self._renewed_at = policy, time.monotonic()
        cut = 0
        for number, (record, relay) in enumerate(tuple(self._open.items()), 1):
            cut += self._judge(record, relay)
            if number % BATCH == 0:
                await asyncio.sleep(0)
        return cut

    def _judge(self, record: Record, relay: Relay) -> bool:
        """Whether it was cut."""
        if self._policy is None or record.target is None or record.address is None:
            return False
        if record not in self._open:  # it ended while others were judged
            return False
        decision = self._policy.decide_addresses(record.target, (record.address,))
        if decision.allowed:
            return False
        record.revoked = f"cut, for the rules changed: {decision.reason}"
        relay.cut()
        return True


class Tunnel:
    """What there is left to do for a connection that a relay has."""

    __slots__ = ("_known", "_record", "_shared")

    def __init__(self, record: Record, known: KnownTunnel | None, shared: Shared) -> None:
        self._record = record
        self._known = known
        self._shared = shared

    def ended(self, end: RelayEnd) -> None:
        """The relay has ended."""
        record, shared = self._record, self._shared
        record.bytes_up += end.bytes_up
        record.bytes_down += end.bytes_down
        record.note = record.revoked or str(end.reason)
        if self._known is not None:
            self._known.client_first = end.client_first
        shared.tunnels.discard(record)
        shared.ledger.close(record)
        shared.release()
