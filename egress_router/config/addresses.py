"""Source, gateway and destination addresses: strict text, with the reason for every refusal."""

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
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.text import Problems, parse_decimal, quote

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.errors import Problem

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_SEPARATORS = re.compile(r"[,\s]+", re.ASCII)
_SOURCE_INVALID = "EGRESS_SOURCE unspecified or invalid"
_GATEWAY_INVALID = "EGRESS_GATEWAY unspecified or invalid"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Sources and gateways, at most one of each per family, IPv4 first, paired by family."""

    sources: tuple[Source, ...]
    gateways: tuple[Address, ...]

    def source(self, version: int) -> Source | None:
        """The source of a family, 4 or 6."""
        return next((s for s in self.sources if s.version == version), None)

    def gateway(self, version: int) -> Address | None:
        """The gateway of a family, 4 or 6."""
        return next((g for g in self.gateways if g.version == version), None)


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


def parse_identity(environment: Environment, found: list[Problem]) -> Identity:
    """EGRESS_SOURCE and EGRESS_GATEWAY; problems are appended to `found`."""
    problems = Problems(variables.SOURCE.name, found)
    sources = _parse_sources(environment.get(variables.SOURCE), problems)
    gateway_problems = Problems(variables.GATEWAY.name, found)
    gateways = _parse_gateways(environment.get(variables.GATEWAY), gateway_problems)
    if sources and gateways:
        _pair(sources, gateways, gateway_problems)
    return Identity(
        sources=tuple(sorted(sources, key=lambda s: s.version)),
        gateways=tuple(sorted(gateways, key=lambda g: g.version)),
    )


def _parse_sources(text: str | None, problems: Problems) -> list[Source]:
    sources: list[Source] = []
    words = split_words(text)
    if not words:
        problems.add(f"{_SOURCE_INVALID}: expected ADDRESS[/LEN]")
    for word in words:
        source = _parse_source(word)
        if isinstance(source, str):
            problems.add(f"{_SOURCE_INVALID}: {quote(word)}: {source}")
        elif any(other.version == source.version for other in sources):
            problems.add(
                f"{_SOURCE_INVALID}: {quote(word)}: expected one IPv{source.version} address"
            )
        else:
            sources.append(source)
    return sources


def _parse_source(word: str) -> Source | str:
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


def _parse_gateways(text: str | None, problems: Problems) -> list[Address]:
    gateways: list[Address] = []
    words = split_words(text)
    if not words:
        problems.add(f"{_GATEWAY_INVALID}: expected ADDRESS")
    for word in words:
        address = parse_address(word)
        if isinstance(address, str):
            problems.add(f"{_GATEWAY_INVALID}: {quote(word)}: {address}")
        elif kind := unusable(address):
            problems.add(f"{_GATEWAY_INVALID}: {quote(word)}: {kind}, expected the gateway's own")
        elif any(other.version == address.version for other in gateways):
            problems.add(
                f"{_GATEWAY_INVALID}: {quote(word)}: expected one IPv{address.version} address"
            )
        else:
            gateways.append(address)
    return gateways


def _pair(sources: list[Source], gateways: list[Address], problems: Problems) -> None:
    for source in sources:
        gateway = next((g for g in gateways if g.version == source.version), None)
        if gateway is None:
            problems.add(
                f"{_GATEWAY_INVALID}: no IPv{source.version} gateway for source "
                f"{quote(str(source.address))}; expected one address per family of EGRESS_SOURCE"
            )
        elif gateway == source.address:
            problems.add(f"{_GATEWAY_INVALID}: {quote(str(gateway))} is the source address itself")
    for gateway in gateways:
        if all(source.version != gateway.version for source in sources):
            problems.add(
                f"{_GATEWAY_INVALID}: {quote(str(gateway))} has no source: "
                f"EGRESS_SOURCE names no IPv{gateway.version} address"
            )
