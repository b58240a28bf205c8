"""One destination of the HTTP list: `HOST[:PORTS]` in all its forms becomes a typed value.

1. An address, a network, a host name, `*.DOMAIN` or `*`; any of them may end in `:PORT` or
   `:PORT-PORT`. An IPv6 address or network then stands in brackets, `[2001:db8::]/32:443`.
2. Host bits in a network and an IPv4 address in IPv6 form carry a remark: the originals took them,
   and what they mean is certain.
3. `/0` is refused: the original proxy read `0.0.0.0/0` as "all, IPv6 too", and complained of it.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from egress_router.config.names import parse_name
from egress_router.config.text import invalid_port, parse_decimal, parse_port, quote

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
Value: TypeAlias = str | IPAddress | IPNetwork

MAPPED_LENGTH = 96  # of ::ffff:0:0/96, IPv4 in IPv6 form (RFC 4291 §2.5.5.2)
_STAR_ALONE = "'*' stands alone or as the whole first label, as in *.example.com"


class Kind(StrEnum):
    """What a destination compares with."""

    ANY = "any"
    ADDRESS = "address"
    NETWORK = "network"
    HOST = "host"
    DOMAIN = "domain"


# A plain tuple, not a record: it lives for one line, and a list may have 100,000 of them.
Destination: TypeAlias = tuple[Kind, Value, tuple[int, int] | None, str]


def parse_destination(text: str) -> Destination:
    """Kind, value, ports and remark of a text such as `*.example.com:443`.

    The value is a normal-form name for HOST and DOMAIN (without the `*.`), `"*"` for ANY, an
    `ipaddress` value otherwise; ports are (first, last) or None for every port. The remark is
    worded to follow the quoted line, or empty. Raises ValueError with the reason.
    """
    host, ports_text = _split_ports(text)
    ports = None if ports_text is None else _parse_ports(ports_text)
    kind, value, remark = _parse_host(host)
    return kind, value, ports, remark


def _split_ports(body: str) -> tuple[str, str | None]:
    """Cuts the ports off: `[2001:db8::]/32:443` becomes (`2001:db8::/32`, `443`)."""
    if "://" in body:
        raise ValueError("a URL is no destination, write its host alone")
    if not body.startswith("["):
        if body.count(":") > 1:  # a bare IPv6 literal, as the originals took it
            return body, None
        host, colon, ports = body.partition(":")
        return host, ports if colon else None
    inner, bracket, rest = body[1:].partition("]")
    length, colon, ports = rest.partition(":")
    if not bracket or ":" not in inner or (length and not length.startswith("/")):
        raise ValueError("brackets enclose one IPv6 address, as in [2001:db8::1]:443")
    return inner + length, ports if colon else None


def _parse_ports(text: str) -> tuple[int, int]:
    first_text, dash, last_text = text.partition("-")
    first = parse_port(first_text)
    if first is None:
        raise ValueError(invalid_port(first_text))
    last = parse_port(last_text) if dash else first
    if last is None:
        raise ValueError(invalid_port(last_text))
    if last < first:
        raise ValueError(f"the port range {text} runs backwards")
    return first, last


def _parse_host(text: str) -> tuple[Kind, Value, str]:
    """Kind, value and remark."""
    if text.startswith("*"):
        return _parse_wildcard(text)
    if "/" in text:
        return _parse_network(text)
    if ":" in text or text.replace(".", "").isdigit():
        address = _parse_address(text)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        remark = f"is an IPv4 address in IPv6 form; taken as {mapped}" if mapped else ""
        return Kind.ADDRESS, mapped or address, remark
    if text.startswith("."):
        raise ValueError(f"a domain is written *{text}")
    if "*" in text:
        raise ValueError(_STAR_ALONE)
    return Kind.HOST, parse_name(text), ""


def _parse_wildcard(text: str) -> tuple[Kind, str, str]:
    if text == "*":
        return Kind.ANY, "*", ""
    if not text.startswith("*.") or "*" in text[1:]:
        raise ValueError(_STAR_ALONE)
    return Kind.DOMAIN, parse_name(text[2:]), ""


def _parse_network(text: str) -> tuple[Kind, IPNetwork, str]:
    address_text, _, length_text = text.partition("/")
    address = _parse_address(address_text)
    length = parse_decimal(length_text)
    if length is None or length > address.max_prefixlen:
        raise ValueError(f"a prefix length is a number from 1 to {address.max_prefixlen}")
    if length == 0:
        raise ValueError("/0 is everything, which is written *")
    remark = ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped and length > MAPPED_LENGTH:
        address, length = address.ipv4_mapped, length - MAPPED_LENGTH
        remark = "is an IPv4 network in IPv6 form; taken as "
    number, host_bits = int(address), address.max_prefixlen - length
    base = number >> host_bits << host_bits
    if base != number:
        remark = remark or "has host bits set; taken as "
    ipv4 = isinstance(address, IPv4Address)
    network = IPv4Network((base, length)) if ipv4 else IPv6Network((base, length))
    return Kind.NETWORK, network, f"{remark}{network}" if remark else ""


def _parse_address(text: str) -> IPAddress:
    if "%" in text:
        raise ValueError("an address with a zone means something on one host only")
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        family = "an IPv6 address" if ":" in text else "an IPv4 address of four plain numbers"
        raise ValueError(f"{quote(text)} is not {family}") from None
