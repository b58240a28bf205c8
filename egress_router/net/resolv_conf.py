"""The nameservers of /etc/resolv.conf; its search list and options do not concern us.

Configured names are absolute, so `search`, `domain` and `ndots` have no say.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from egress_router.net.watched import WatchedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.endpoint import IPAddress

RESOLV_CONF = Path("/etc/resolv.conf")
NAMESERVERS_MAX = (
    3  # MAXNS of resolv.conf(5): further ones were never asked by anything else either
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameserver:
    """Where queries go."""

    address: IPAddress
    port: int = 53


class Servers(Protocol):
    """Tells which nameservers to ask now."""

    def current(self) -> tuple[Nameserver, ...]:
        """At most three, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedServers:
    """Nameservers that do not come from a file."""

    servers: tuple[Nameserver, ...]

    def current(self) -> tuple[Nameserver, ...]:
        """The same ones always."""
        return self.servers


def parse_resolv_conf(text: str) -> tuple[Nameserver, ...]:
    """The first three nameservers, in order; lines that cannot be read are passed over."""
    found: dict[Nameserver, None] = {}
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword != "nameserver" or not values:
            continue
        try:
            found[Nameserver(address=ip_address(values[0]))] = None
        except ValueError:
            continue
    return tuple(found)[:NAMESERVERS_MAX]


def watch_resolv_conf(
    clock: Callable[[], float], path: Path = RESOLV_CONF
) -> WatchedFile[tuple[Nameserver, ...]]:
    """The nameservers as the file has them now; a file that names none changes nothing."""
    return WatchedFile(path, parse_resolv_conf, initial=(), accept=bool, clock=clock)
