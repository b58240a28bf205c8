"""A tracked connection from the bytes of its message."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from egress_router.config.destinations import Protocol
from egress_router.kernel.conntrack import parse_flow
from egress_router.kernel.nfnetlink import pack_attribute

NESTED = 1 << 15


def side(kind: int, source: str, destination: str, protocol: int, ports: tuple[int, int]) -> bytes:
    """One direction, as the kernel writes it."""
    first = 1 if "." in source else 3
    addresses = b"".join(
        pack_attribute(first + n, ip_address(a).packed) for n, a in enumerate((source, destination))
    )
    numbers = pack_attribute(1, bytes([protocol]))
    numbers += b"".join(pack_attribute(n, struct.pack("!H", p)) for n, p in enumerate(ports, 2))
    pair = pack_attribute(1 | NESTED, addresses) + pack_attribute(2 | NESTED, numbers)
    return pack_attribute(kind | NESTED, pair)


@pytest.mark.parametrize(
    ("client", "pod", "partner", "source"),
    [
        ("10.0.0.9", "10.0.0.5", "203.0.113.1", "192.0.2.7"),
        ("fd00::9", "fd00::5", "2001:db8::1", "2001:db8:2::7"),
    ],
)
def test_both_directions(client: str, pod: str, partner: str, source: str) -> None:
    """The packet that opened it, and who answers to whom, in either family."""
    message = side(1, client, pod, socket.IPPROTO_TCP, (4000, 80))
    message += side(2, partner, source, socket.IPPROTO_TCP, (8080, 5000))
    flow = parse_flow(message + pack_attribute(3, b"\0\0\0\1"))
    assert flow is not None
    assert flow.protocol is Protocol.TCP
    assert (str(flow.source), flow.source_port) == (client, 4000)
    assert (str(flow.destination), flow.destination_port) == (pod, 80)
    assert (str(flow.answers), flow.answers_port) == (partner, 8080)
    assert (str(flow.answers_to), flow.answers_to_port) == (source, 5000)


def test_other_protocols_are_none_of_our_business() -> None:
    """ICMP has no ports; a message without both directions is no connection."""
    icmp = pack_attribute(1 | NESTED, pack_attribute(1, bytes([socket.IPPROTO_ICMP])))
    opened = side(1, "10.0.0.9", "10.0.0.5", socket.IPPROTO_UDP, (1, 2))
    addresses = pack_attribute(1 | NESTED, b"")
    message = pack_attribute(1 | NESTED, addresses + icmp.replace(b"\x01\x80", b"\x02\x80", 1))
    answer = pack_attribute(2 | NESTED, addresses + icmp.replace(b"\x01\x80", b"\x02\x80", 1))
    assert parse_flow(message + answer) is None
    assert parse_flow(opened) is None
