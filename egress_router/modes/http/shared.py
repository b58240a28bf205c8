"""What all client connections of a daemon have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from egress_router.modes.http.shortcut import KnownTunnels
from egress_router.modes.http.tunnels import Tunnels

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from egress_router.modes.http.client import Client
    from egress_router.modes.http.ledger import Ledger
    from egress_router.modes.http.uplink import Uplink
    from egress_router.net.http1.lines import HeadLimits
    from egress_router.net.poller import Poller
    from egress_router.net.relay import Carrier
    from egress_router.net.wheel import IdleWheel


@dataclass(slots=True, kw_only=True)
class Shared:
    """What is one for all of them.

    `start` gives a connection its task, `release` gives its place back.
    """

    uplink: Uplink
    carrier: Carrier
    ledger: Ledger
    wheel: IdleWheel
    ticks: tuple[int, ...]
    head_limits: HeadLimits
    loop: asyncio.AbstractEventLoop
    poller: Poller
    release: Callable[[], None]
    start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    draining: bool = False
    tunnels: Tunnels = field(default_factory=Tunnels)
    clients: set[Client] = field(default_factory=set)
    heads: KnownTunnels = field(default_factory=KnownTunnels)
