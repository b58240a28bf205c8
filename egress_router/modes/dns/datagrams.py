"""One forwarded UDP port: the kernel carries it, this only says where to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress_router.plan.forwards import Forward

if TYPE_CHECKING:
    from egress_router.config.dns_destination import DnsDestination
    from egress_router.modes.dns.names import Name
    from egress_router.modes.dns.port import Shared


class DatagramPort:
    """Nobody can tell whether a partner hears datagrams, so every address of the name is used."""

    def __init__(self, destination: DnsDestination, name: Name, shared: Shared) -> None:
        self.destination = destination
        self.name = name
        self._shared = shared

    def forward(self) -> Forward | None:
        """Where the kernel sends datagrams: each family of clients to addresses of its own."""
        if self.reason:
            return None
        return Forward(
            protocol=self.destination.protocol,
            port=self.destination.port,
            addresses=self.name.addresses,
            target_port=self.destination.target_port,
        )

    @property
    def reason(self) -> str:
        """Why the port refuses; empty if it does not."""
        if self._shared.draining or self._shared.trouble:
            return self._shared.trouble or "the daemon drains"
        return "" if self.name.addresses else f"{self.name.text}: {self.name.detail}"
