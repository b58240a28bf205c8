"""ARP and neighbour discovery packets: bytes to facts and facts to bytes, no sockets.

ARP: RFC 826, probes and announcements RFC 5227. Neighbour discovery: RFC 4861; a duplicate address
probe is a solicitation from the unspecified address (RFC 4862 §5.4.2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_ICMPV6 = 58
_SOLICIT, _ADVERT = 135, 136
_HOP_LIMIT = 255  # anything less was routed and must be ignored (RFC 4861 §7.1)
_OPTION_SOURCE, _OPTION_TARGET = 1, 2
_OVERRIDE = 0x2000_0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Somebody on the link uses, or is about to claim, an address.

    `probing`: it only asks, as an address prober does before its claim.
    `answering`: it answers one station's announcement, which asked for nothing. So do BSD's holders
    (most tell all instead, RFC 5227 §2.4), and gateways that proxy ARP, which answer no probe.
    """

    address: IPv4Address | IPv6Address
    mac: str
    probing: bool = False
    answering: bool = False


def arp_request(mac: bytes, sender: IPv4Address | None, target: IPv4Address) -> bytes:
    """A request for `target`: a probe without a sender, an announcement with sender = target."""
    source = sender.packed if sender else bytes(4)
    return _ARP.pack(1, 0x0800, 6, 4, _REQUEST, mac, source, bytes(6), target.packed)


def parse_arp(packet: bytes) -> tuple[Sighting, ...]:
    """Who an ARP packet shows: its sender, and for a probe the address it asks for."""
    if len(packet) < _ARP.size:
        return ()
    fields = _ARP.unpack_from(packet)
    if fields[:4] != (1, 0x0800, 6, 4):
        return ()
    operation, sender_mac, sender, target_mac, target = fields[4:9]
    mac = render_mac(sender_mac)
    if sender != bytes(4):
        answering = (
            operation == _REPLY
            and sender == target
            and target_mac not in {bytes(6), BROADCAST, sender_mac}
        )
        return (Sighting(address=IPv4Address(sender), mac=mac, answering=answering),)
    if operation == _REQUEST:
        return (Sighting(address=IPv4Address(target), mac=mac, probing=True),)
    return ()


def neighbour_solicitation(
    mac: bytes, sender: IPv6Address | None, target: IPv6Address
) -> tuple[bytes, bytes]:
    """The destination MAC and IPv6 packet that ask who has `target`; without sender, a probe."""
    group = IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + target.packed[13:])
    body = struct.pack("!BBHI", _SOLICIT, 0, 0, 0) + target.packed
    if sender is not None:
        body += struct.pack("!BB6s", _OPTION_SOURCE, 1, mac)
    return _multicast_mac(group), _ipv6(sender or IPv6Address(0), group, body)


def neighbour_advertisement(mac: bytes, address: IPv6Address) -> tuple[bytes, bytes]:
    """The destination MAC and IPv6 packet that announce `address` to all nodes."""
    body = struct.pack("!BBHI", _ADVERT, 0, 0, _OVERRIDE) + address.packed
    body += struct.pack("!BB6s", _OPTION_TARGET, 1, mac)
    return _multicast_mac(ALL_NODES), _ipv6(address, ALL_NODES, body)


def parse_neighbour(packet: bytes, sender_mac: bytes) -> tuple[Sighting, ...]:
    """Who a neighbour discovery packet shows; nothing if it is none, or was routed."""
    if len(packet) < 64 or packet[0] >> 4 != 6 or packet[6] != _ICMPV6 or packet[7] != _HOP_LIMIT:
        return ()
    kind, target = packet[40], IPv6Address(packet[48:64])
    mac = render_mac(sender_mac)
    if kind == _ADVERT:
        return (Sighting(address=target, mac=mac),)
    if kind == _SOLICIT and packet[8:24] == bytes(16):
        return (Sighting(address=target, mac=mac, probing=True),)
    return ()


def parse_mac(text: str) -> bytes:
    """`02:e6:c0:a8:0c:63` to six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def render_mac(mac: bytes) -> str:
    """Six bytes to `02:e6:c0:a8:0c:63`."""
    return mac.hex(":")


def _multicast_mac(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[12:]


def _ipv6(source: IPv6Address, destination: IPv6Address, body: bytes) -> bytes:
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), _ICMPV6) + body
    checksum = _checksum(pseudo)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, _HOP_LIMIT)
    return header + source.packed + destination.packed + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
