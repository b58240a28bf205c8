"""Which upstream addresses failed lately, and in which order to try several.

1. A failed address comes behind the others for 30 s. It is still tried when nothing else is left:
   a server that has just come up need not wait for our memory.
2. After that one dial in a second tries it at its place again, until it has answered: a dead
   address is not met by a crowd every half minute.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.net.endpoint import IPAddress
    from egress_router.net.upstreams import Upstream

    Endpoint: TypeAlias = tuple[IPAddress, int]

REMEMBERED_S: Final = 30.0
PROBE_EVERY_S: Final = 1.0
ENDPOINTS_MAX: Final = 10_000  # clients of a proxy choose them


class Health:
    """Remembers failures by address and port; injected into every dial of a daemon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._avoided_until: dict[Endpoint, float] = {}

    def order(self, upstreams: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
        """The same order, with those that failed lately behind the rest."""
        if not self._avoided_until:
            return upstreams
        return tuple(sorted(upstreams, key=self._is_avoided))

    def note_failed(self, address: IPAddress, port: int) -> None:
        """A connection to it did not come about."""
        endpoint = (address, port)
        self._avoided_until.pop(endpoint, None)
        self._avoided_until[endpoint] = self._clock() + REMEMBERED_S
        if len(self._avoided_until) > ENDPOINTS_MAX:
            del self._avoided_until[next(iter(self._avoided_until))]

    def note_alive(self, address: IPAddress, port: int) -> None:
        """A connection to it came about."""
        if self._avoided_until:
            self._avoided_until.pop((address, port), None)

    def clear(self) -> None:
        """Nothing is known of any address."""
        self._avoided_until.clear()

    def avoided(self) -> tuple[Endpoint, ...]:
        """The endpoints that come last now, for metrics and status."""
        now = self._clock()
        return tuple(endpoint for endpoint, until in self._avoided_until.items() if now < until)

    def _is_avoided(self, upstream: Upstream) -> bool:
        endpoint = (upstream.address, upstream.port)
        until = self._avoided_until.get(endpoint)
        if until is None:
            return False
        now = self._clock()
        if now < until:
            return True
        self._avoided_until[endpoint] = now + PROBE_EVERY_S
        return False


def rotate(addresses: Sequence[IPAddress], turn: int) -> tuple[IPAddress, ...]:
    """The same circle, begun `turn` places further on: `a b c` by 1 is `b c a`."""
    if not addresses:
        return ()
    start = turn % len(addresses)
    return (*addresses[start:], *addresses[:start])
