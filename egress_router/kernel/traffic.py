"""What has passed, read when somebody asks: a scrape, `status`. No look at drift needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress_router.errors import KernelError
from egress_router.kernel.tally import observe_tally
from egress_router.kernel.tracking import Tracking, observe_tracking
from egress_router.plan.counting import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.kernel.forwards import ForwardTable
    from egress_router.kernel.netlink import Netlink
    from egress_router.plan.counting import Ports
    from egress_router.plan.snapshot import Router
    from egress_router.plan.state import Neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One reading. `link`: the egress link's counters; `link_up`: whether it carries anything.

    `tally` None: the table may not be read without CAP_NET_ADMIN. `gateways`: as the kernel knows
    them, in the router's order; an unknown one is left out. `ports`: of DNS mode's own table.
    """

    link_up: bool = False
    link: Mapping[str, int] = field(default_factory=dict)
    gateways: tuple[Neighbour, ...] = ()
    tracking: Tracking = field(default_factory=Tracking)
    tally: Tally | None = None
    ports: Ports = field(default_factory=dict)


def observe_traffic(
    netlink: Netlink, router: Router, forwards: ForwardTable, *, tally: bool
) -> Traffic:
    """Reads it all; `tally`: the table's counters too. Blocks, and may raise KernelError."""
    link = netlink.observe_counted_link(router.egress)
    neighbours = netlink.observe_neighbours(router.egress)
    return Traffic(
        link_up=link is not None and link[0].up and link[0].carrier,
        link=link[1] if link else {},
        gateways=tuple(
            one for gateway in router.gateways for one in neighbours if one.address == gateway
        ),
        tracking=observe_tracking(),
        tally=_tally() if tally else None,
        ports=forwards.observe() if tally else {},
    )


def _tally() -> Tally:
    try:
        return observe_tally()
    except KernelError:
        return Tally()  # the table went while it was read; the rest is worth telling
