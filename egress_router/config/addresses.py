"""One written address: strict text, with the reason for every refusal."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from egress_router.config.text import parse_decimal

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_SEPARATORS = re.compile(r"[,\s]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The reserved address of one family. `explicit_length`: the prefix length was written."""

    interface: Interface
    explicit_length: bool

    @property
    def address(self) -> Address:
        """The address without its prefix length."""
        return self.interface.ip

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.interface.version


def parse_address(text: str) -> Address | str:
    """An address in its usual written form, or the reason in words why the text is none.

    Refused beside garbage: leading zeros, zone ids, brackets, and IPv4-mapped IPv6 addresses,
    whose family would depend on who reads them.
    """
    if "%" in text:
        return "expected an address without a zone id"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "expected an IPv4 or IPv6 address"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return "expected the IPv4 address itself, not its IPv4-mapped form"
    return address


def unusable(address: Address) -> str | None:
    """Why no packet can go to or come from an address, or None if it is an ordinary one."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if address.version == 4 and int(address) >> 28 == 15:
        return "a reserved address (240.0.0.0/4)"
    if address.version == 4 and int(address) >> 24 == 0:
        return "an address of 'this network' (0.0.0.0/8)"
    return None


def split_words(text: str | None) -> list[str]:
    """The words of a list of addresses, separated by commas or blanks."""
    return list(filter(None, _SEPARATORS.split(text or "")))


def parse_source(word: str) -> Source | str:
    """`ADDRESS[/LEN]` of a host on the outside network, or the reason why the word is none."""
    text, slash, length_text = word.partition("/")
    address = parse_address(text)
    if isinstance(address, str):
        return address
    if kind := unusable(address):
        return f"{kind}, expected one of the outside network"
    if address.version == 6 and address.is_link_local:
        return "a link-local address, expected one of the outside network"
    length = parse_decimal(length_text) if slash else address.max_prefixlen
    if length is None or not 1 <= length <= address.max_prefixlen:
        return f"expected a prefix length from 1 to {address.max_prefixlen}"
    interface = ipaddress.ip_interface(f"{address}/{length}")
    if length < address.max_prefixlen - 1:
        if address == interface.network.network_address:
            return f"the network address of {interface.network}, expected a host's"
        if address.version == 4 and address == interface.network.broadcast_address:
            return f"the broadcast address of {interface.network}, expected a host's"
    return Source(interface=interface, explicit_length=bool(slash))
