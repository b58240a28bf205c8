"""What the container's files say about its surroundings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.config.addresses import parse_address

if TYPE_CHECKING:
    from egress_router.config.addresses import Address

_FLOW_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_FORWARDING6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")
_RESOLV_CONF = Path("/etc/resolv.conf")


def observe_nameservers(path: Path = _RESOLV_CONF) -> tuple[Address, ...]:
    """The nameservers of resolv.conf(5); those with a zone id are left out, they are on-link."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    fields = (line.split() for line in text.splitlines())
    found = (parse_address(f[1]) for f in fields if len(f) > 1 and f[0] == "nameserver")
    return tuple(address for address in found if not isinstance(address, str))


def observe_forwarding6() -> bool:
    """Whether this namespace forwards IPv6, which only a writable /proc/sys can turn on."""
    try:
        return _FORWARDING6.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def observe_flow_count() -> int | None:
    """How many connections this namespace tracks; None where the kernel does not tell."""
    try:
        return int(_FLOW_COUNT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
