"""What all client connections of a daemon have in common."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress_router.modes.http.tunnels import Tunnels

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.modes.http.client import Client
    from egress_router.modes.http.ledger import Ledger
    from egress_router.modes.http.uplink import Uplink
    from egress_router.net.http1.lines import HeadLimits
    from egress_router.net.relay import Carrier
    from egress_router.net.wheel import IdleWheel


@dataclass(slots=True, kw_only=True)
class Shared:
    """`release` gives a place back; `ended` is set whenever a connection has ended."""

    uplink: Uplink
    carrier: Carrier
    ledger: Ledger
    wheel: IdleWheel
    ticks: tuple[int, ...]
    head_limits: HeadLimits
    loop: asyncio.AbstractEventLoop
    release: Callable[[], None]
    tunnels: Tunnels = field(default_factory=Tunnels)
    draining: bool = False
    clients: set[Client] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
