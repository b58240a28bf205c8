"""DNS mode's part of a reload: lines that came, went or lead elsewhere, and their connections.

A connection stays open while a line leads its port to where it goes. A port whose line is unchanged
keeps all of its connections, whatever DNS says. Those of a removed port are reset, and those of a
port that leads elsewhere, unless their partner's address and port are among the new ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress_router.config.changes import Entry, describe_entries
from egress_router.config.dns import Datapath, DnsConfig, parse_dns
from egress_router.config.dns_destination import Protocol
from egress_router.errors import KernelError
from egress_router.modes.dns.kernel_path import decide_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.config.settings import Environment
    from egress_router.modes.dns.port import Shared
    from egress_router.modes.dns.roster import Replaced
    from egress_router.modes.dns.serving import Serving

_BATCH = 16  # ports tried in one turn of the loop: 4 sockets each
_REMOVED = "cut, for its line was removed"
_MOVED = "cut, for its port leads elsewhere now"


class Reloading:
    """What the mode supplies to `service.reload`."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def parse(self, environment: Environment) -> DnsConfig:
        """The configuration."""
        return parse_dns(environment)

    def compare(self, old: DnsConfig, new: DnsConfig) -> tuple[str, ...]:
        """Ports that came, went, or lead elsewhere."""
        return describe_entries(_entries(old), _entries(new))

    def prepare(self, new: DnsConfig) -> None:
        """Nothing takes long."""

    async def apply(self, new: DnsConfig, _prepared: None) -> int:
        """Puts the list in force; raises KernelError where a port is taken or not permitted."""
        serving = self._serving
        if decide_kernel(new) and serving.path_name != Datapath.KERNEL:
            raise KernelError("use the kernel's data path", "this daemon was started without it")
        known = {port.destination.port for port in serving.roster.ports}
        listening = (one.port for one in new.destinations if one.protocol is Protocol.TCP)
        added = [port for port in listening if port not in known]
        for start in range(0, len(added), _BATCH):
            serving.try_ports(added[start : start + _BATCH])
            await asyncio.sleep(0)
        return await serving.replace(new)


def revoke_connections(shared: Shared, replaced: Replaced) -> int:
    """Ends what the list does not lead to any more; how many connections that were."""
    removed, moved = set(replaced.removed), set(replaced.moved)
    ended = 0
    for connection in tuple(shared.dialling):
        if connection.port in removed:
            connection.cut(_REMOVED)
            ended += 1
        elif connection.port in moved:
            connection.dial_again()
    for connection in tuple(shared.carried):
        port = connection.port
        if port in removed:
            connection.revoke(_REMOVED)
        elif port in moved and not connection.leads_to(
            port.destination.target_port, port.name.addresses
        ):
            connection.revoke(_MOVED)
        else:
            continue
        ended += 1
    return ended


def _entries(config: DnsConfig) -> Iterator[Entry]:
    for one in config.destinations:
        what = f"{one.protocol} port {one.port}"
        yield Entry(what=what, target=f"{one.host} port {one.target_port}", line=one.line)
