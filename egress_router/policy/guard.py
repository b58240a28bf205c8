"""Addresses no request reaches, whatever the list says, each with its reason and source.

1. The table is explicit. `ipaddress.is_global` is no guard: it calls `::127.0.0.1`,
   `64:ff9b::7f00:1`, `2002:7f00:1::`, `fec0::1` and `224.0.0.1` global.
2. Private ranges (RFC 1918, RFC 6598, RFC 4193) are not in it: to reach them is what the product
   is for. Neither are the documentation and benchmark ranges, which reach nobody.
3. An IPv6 address that carries an IPv4 address somebody may translate to or tunnel to (NAT64,
   6to4, Teredo) is refused if the carried one is. Where the carried address cannot be told or the
   form never belongs on a wire, the whole range is refused.
4. Link-local and metadata ranges are `openable`: a line that names an address or network inside
   that range may open it. Nothing opens the others, nor the router's own addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Final

from egress_router.policy.prefixes import (
    IPAddress,
    IPNetwork,
    PrefixTable,
    build_prefix_table,
    prefix_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRange:
    """A range, what it is in words, who says so, and whether a line may open it."""

    network: IPNetwork
    words: str
    source: str
    openable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRefusal:
    """Why an address is refused.

    `openable_from` is None, or the shortest prefix of a line that names the address literally.
    """

    words: str
    openable_from: int | None = None


def _never(network: str, words: str, source: str) -> RefusedRange:
    return RefusedRange(network=ip_network(network), words=words, source=source)


def _unless_named(network: str, words: str, source: str) -> RefusedRange:
    return RefusedRange(network=ip_network(network), words=words, source=source, openable=True)


REFUSED: tuple[RefusedRange, ...] = (
    _never("0.0.0.0/8", "this host and network", "RFC 1122 §3.2.1.3"),
    _never("127.0.0.0/8", "loopback", "RFC 1122 §3.2.1.3"),
    _never("224.0.0.0/4", "multicast", "RFC 5771"),
    _never("240.0.0.0/4", "reserved", "RFC 1112 §4"),
    _never("255.255.255.255/32", "broadcast", "RFC 919 §7"),
    _never("::/128", "unspecified", "RFC 4291 §2.5.2"),
    _never("::1/128", "loopback", "RFC 4291 §2.5.3"),
    _never("::/96", "IPv4-compatible, deprecated", "RFC 4291 §2.5.5.1"),
    _never("::ffff:0:0/96", "IPv4-mapped, never on a wire", "RFC 4291 §2.5.5.2"),
    _never("::ffff:0:0:0/96", "IPv4-translated, obsolete", "RFC 2765 §2.1"),
    # The prefix length, and with it the place of the IPv4 address, is the operator's secret.
    _never("64:ff9b:1::/48", "local NAT64, carries an unknown IPv4 address", "RFC 8215"),
    _never("100::/64", "discard-only", "RFC 6666"),
    _never("fec0::/10", "site-local, deprecated", "RFC 3879"),
    _never("ff00::/8", "multicast", "RFC 4291 §2.7"),
    _unless_named("169.254.0.0/16", "link-local, cloud metadata", "RFC 3927"),
    _unless_named("fe80::/10", "link-local", "RFC 4291 §2.5.6"),
    _unless_named("100.100.100.200/32", "cloud metadata", "Alibaba Cloud ECS, instance metadata"),
    _unless_named("168.63.129.16/32", "cloud metadata", "Azure, What is 168.63.129.16"),
    _unless_named("192.0.0.192/32", "cloud metadata", "Oracle Cloud Classic, instance metadata"),
    _unless_named("fd00:ec2::/32", "cloud metadata", "AWS EC2, instance metadata and services"),
    _unless_named("fd20:ce::254/128", "cloud metadata", "Google Compute Engine, metadata server"),
    _unless_named("fd00:c1::a9fe:a9fe/128", "cloud metadata", "Oracle Cloud, instance metadata"),
    _unless_named("fd00:a9fe:a9fe::1/128", "cloud metadata", "Akamai (Linode), metadata service"),
    _unless_named("fd00:100::100:200/128", "cloud metadata", "Alibaba Cloud ECS, IPv6 metadata"),
    _unless_named("fd00:42::42/128", "cloud metadata", "Scaleway, instance metadata"),
)

_NAT64: Final = int(IPv6Address("64:ff9b::")) >> 32  # RFC 6052 §2.1, a /96
_TEREDO: Final = 0x2001_0000  # RFC 4380 §4, a /32
_SIX_TO_FOUR: Final = 0x2002  # RFC 3056 §2, a /16
_LOW_32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The table of refused ranges, the router's own addresses among them."""

    table: PrefixTable[RefusedRange]

    def refusal(self, address: IPAddress) -> GuardRefusal | None:
        """Why an address must not be dialled, or None."""
        for row in self.table.containing(address):
            return GuardRefusal(
                words=f"{address} is in {row.network}: {row.words} ({row.source})",
                openable_from=row.network.prefixlen if row.openable else None,
            )
        for inner in carried_addresses(address):
            if (reason := self.refusal(inner)) is not None:
                return GuardRefusal(words=f"{address} carries an IPv4 address, and {reason.words}")
        return None


def build_guard(own: Iterable[IPAddress] = ()) -> Guard:
    """The guard of a router with these addresses, of both families and on every link."""
    rows = {prefix_key(row.network): row for row in REFUSED}
    for address in own:
        network = ip_network(address)
        row = RefusedRange(network=network, words="the router itself", source="RFC 9110 §7.6")
        rows[prefix_key(network)] = row
    return Guard(table=build_prefix_table(rows))


def carried_addresses(address: IPAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a NAT64, 6to4 or Teredo address stands for; usually none.

    `64:ff9b::203.0.113.7` gives `203.0.113.7`; Teredo gives its server and its client.
    """
    if not isinstance(address, IPv6Address):
        return ()
    number = int(address)
    if number >> 32 == _NAT64:
        return (IPv4Address(number & _LOW_32),)
    if number >> 112 == _SIX_TO_FOUR:
        return (IPv4Address(number >> 80 & _LOW_32),)
    if number >> 96 == _TEREDO:  # the client's address is stored with its bits flipped
        return IPv4Address(number >> 64 & _LOW_32), IPv4Address(~number & _LOW_32)
    return ()
