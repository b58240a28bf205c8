"""The names of /etc/hosts, where Kubernetes writes a pod's hostAliases."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from egress_router.net.names import parse_name
from egress_router.net.watched import WatchedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress_router.net.endpoint import IPAddress
    from egress_router.net.scan import Labels

    HostsTable: TypeAlias = Mapping[Labels, tuple[IPAddress, ...]]

HOSTS = Path("/etc/hosts")


class HostsFile(Protocol):
    """Tells which names need no nameserver."""

    def current(self) -> HostsTable:
        """Addresses by name."""


def parse_hosts(text: str) -> HostsTable:
    """Every name with its addresses in the order of the lines; bad lines and names are passed over.

    A name on several lines has the addresses of all of them, as hosts(5) with `multi on`.
    """
    table: dict[Labels, dict[IPAddress, None]] = {}
    for line in text.splitlines():
        word, *names = line.partition("#")[0].split() or [""]
        try:
            address = ip_address(word)
        except ValueError:
            continue
        for name in names:
            if labels := parse_name(name):
                table.setdefault(labels, {})[address] = None
    return {labels: tuple(addresses) for labels, addresses in table.items()}


def watch_hosts(clock: Callable[[], float], path: Path = HOSTS) -> WatchedFile[HostsTable]:
    """The table as the file has it now; a file that is gone leaves the last table in use."""
    return WatchedFile(path, parse_hosts, initial={}, clock=clock)
