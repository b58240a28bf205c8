"""Longest-prefix tables: networks as dictionary keys, one dictionary per prefix length.

A lookup costs one dictionary access per prefix length in use (at most 33 or 129), however many
networks are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
V = TypeVar("V")

PrefixKey: TypeAlias = tuple[int, int, int]  # IP version, prefix length, network without host bits
_Level: TypeAlias = tuple[int, int, dict[int, V]]  # prefix length, host bits, network -> value


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTable(Generic[V]):
    """Values by network, both families; levels run from the longest prefix to the shortest."""

    ipv4: tuple[_Level[V], ...]
    ipv6: tuple[_Level[V], ...]

    def containing(self, address: IPAddress, *, shortest: int = 0) -> Iterator[V]:
        """Values of the networks that hold an address, most specific first.

        Networks with a prefix shorter than `shortest` are left out.
        """
        number = int(address)
        for length, host_bits, networks in self.ipv4 if address.version == 4 else self.ipv6:
            if length < shortest:
                return
            value = networks.get(number >> host_bits)
            if value is not None:
                yield value


def prefix_key(key: IPNetwork | IPAddress) -> PrefixKey:
    """The key of a network or single address; `10.0.0.1` and `10.0.0.1/32` share one."""
    if isinstance(key, (IPv4Address, IPv6Address)):
        return key.version, key.max_prefixlen, int(key)
    host_bits = key.max_prefixlen - key.prefixlen
    return key.version, key.prefixlen, int(key.network_address) >> host_bits


def build_prefix_table(values: Mapping[PrefixKey, V]) -> PrefixTable[V]:
    """The table of a mapping."""
    families: dict[int, dict[int, dict[int, V]]] = {4: {}, 6: {}}
    for (version, length, base), value in values.items():
        families[version].setdefault(length, {})[base] = value
    return PrefixTable(ipv4=_levels(families[4], 32), ipv6=_levels(families[6], 128))


def _levels(lengths: dict[int, dict[int, V]], bits: int) -> tuple[_Level[V], ...]:
    longest_first = sorted(lengths.items(), reverse=True)
    return tuple((length, bits - length, networks) for length, networks in longest_first)
