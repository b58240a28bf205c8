"""DNS mode's table in the kernel: put there, missed when somebody flushed it, taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.kernel.tally import observe_ports
from egress_router.plan.counting import add_ports
from egress_router.plan.forwards import (
    TABLE,
    forwards_digest,
    map_names,
    render_forwards_removal,
)

if TYPE_CHECKING:
    from egress_router.kernel.nft import Nft
    from egress_router.plan.counting import Ports


class ForwardTable:
    """What should be in force, and whether it is. Every call blocks, and may raise KernelError."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._generation: int | None = None
        self._counted: Ports = {}  # by the tables that this one has replaced

    def put(self, nft: Nft, text: str) -> None:
        """Replaces the table in one transaction; what the old one has counted is kept."""
        counted = self.observe()
        nft.change(text, step="load the nftables table of forwarded ports")
        self._counted = counted
        self._text, self._generation = text, nft.generation()

    def observe(self) -> Ports:
        """What each port has counted since the daemon started."""
        if self._text is None:
            return self._counted
        return add_ports(self._counted, observe_ports(TABLE, map_names(self._text)))

    def keep(self, nft: Nft) -> bool:
        """Loads the table again if it is not there any more; whether that was so."""
        if self._text is None:
            return False
        generation = nft.generation()
        if generation is not None and generation == self._generation:
            return False
        self._generation = generation
        if forwards_digest(nft.listing(TABLE)) == forwards_digest(self._text):
            return False
        self.put(nft, self._text)
        return True

    def remove(self, nft: Nft) -> None:
        """Takes the table away."""
        if self._text is not None:
            nft.change(render_forwards_removal(), step="remove the nftables table of ports")
            self._text = None
