"""The way out as all ports share it: source addresses, egress link, and whom nobody may dial."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from egress_router.net.egress import Egress, LinkProbe
from egress_router.policy.guard import build_guard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress_router.net.endpoint import IPAddress
    from egress_router.plan.snapshot import Router


class Outside:
    """Follows the router that the network watch sees."""

    def __init__(self) -> None:
        self.egress = Egress()
        self._router: Router | None = None
        self._guard = build_guard()
        self._probe = LinkProbe()

    @property
    def families(self) -> tuple[int, ...]:
        """The families that the router has a source address of: `(4,)`, `(4, 6)`."""
        egress = self.egress
        sources = ((4, egress.source4), (6, egress.source6))
        return tuple(version for version, source in sources if source is not None)

    def follow(self, router: Router) -> bool:
        """Takes over a router; whether it differs from the last one."""
        if router == self._router:
            return False
        self._router = router
        own = (*router.own_addresses, *router.sources, *router.cluster_addresses)
        self._guard = build_guard(own)
        self.egress = Egress(
            source4=next((one for one in router.sources if isinstance(one, IPv4Address)), None),
            source6=next((one for one in router.sources if isinstance(one, IPv6Address)), None),
            link=router.egress,
        )
        return True

    def trouble(self) -> str:
        """Why nothing can leave by the egress link, in words; empty if it can."""
        if self._router is None:
            return "init has not set this pod up"
        return self._probe.trouble(self._router.egress)

    def refusal(self, address: IPAddress, *, written: bool = False) -> str | None:
        """Why an address is not dialled, or None.

        `written`: it stands in the configuration itself, which may name a link-local address.
        """
        refused = self._guard.refusal(address)
        if refused is not None and not (written and refused.openable_from is not None):
            return refused.words
        if address.version not in self.families:
            return f"{address}: the router has no IPv{address.version} source address"
        return None

    def usable(self, addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
        """Those of an answer that may be dialled, IPv4 first, each family in numeric order."""
        allowed = {address for address in addresses if self.refusal(address) is None}
        return tuple(sorted(allowed, key=lambda address: (address.version, int(address))))

    def close(self) -> None:
        """Lets go of what it holds of the system."""
        self._probe.close()
