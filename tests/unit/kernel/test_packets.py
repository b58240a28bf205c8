from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.kernel.packets import (
    Sighting,
    _checksum,
    arp_request,
    neighbour_advertisement,
    neighbour_solicitation,
    parse_arp,
    parse_mac,
    parse_neighbour,
    render_mac,
)

MAC = bytes.fromhex("0a580a800005")
MAC_TEXT = "0a:58:0a:80:00:05"
MINE, OTHER = IPv4Address("10.128.0.5"), IPv4Address("10.128.0.7")
MINE_6, OTHER_6 = IPv6Address("fd00:128::5"), IPv6Address("fd00:128::7")

# As Linux sent them, without their Ethernet headers.
ARP_REQUEST = bytes.fromhex("0001080006040001 0a580a800005 0a800005 000000000000 0a800007")
SOLICITATION = bytes.fromhex(
    "6000000000203aff fd000128000000000000000000000005 ff0200000000000000000001ff000007"
    "8700685d00000000 fd000128000000000000000000000007 01010a580a800005"
)
DAD_PROBE = bytes.fromhex(
    "6000000000203aff 00000000000000000000000000000000 ff0200000000000000000001ff0352ac"
    "8700200b00000000 fe800000000000007c4485fffe0352ac 0e0140f5f6237156"
)
ROUTER_SOLICITATION = bytes.fromhex(
    "6000000000103aff fe800000000000007c4485fffe0352ac ff020000000000000000000000000002"
    "8500d34500000000 01017e44850352ac"
)


def test_arp_request_as_linux_sends_it() -> None:
    """Our request is the kernel's own, byte for byte."""
    assert arp_request(MAC, MINE, OTHER) == ARP_REQUEST


def test_solicitation_as_linux_sends_it() -> None:
    """Our neighbour solicitation is the kernel's own, checksum and all."""
    destination, packet = neighbour_solicitation(MAC, MINE_6, OTHER_6)
    assert destination == bytes.fromhex("3333ff000007")
    assert packet == SOLICITATION


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        pytest.param("0001f203f4f5f6f7", 0x220D, id="rfc-1071-example"),
        pytest.param("", 0xFFFF, id="nothing"),
        pytest.param("ffff", 0, id="all-ones"),
        pytest.param("ffffffff0001", 0xFFFE, id="carries-twice"),
    ],
)
def test_checksum(data: str, checksum: int) -> None:
    """The Internet checksum, against vectors of others."""
    assert _checksum(bytes.fromhex(data)) == checksum


@given(st.binary(min_size=6, max_size=6), st.ip_addresses(v=6))
def test_every_checksum_is_right(mac: bytes, target: IPv6Address) -> None:
    """Summed up with its pseudo header, every packet we make gives zero (RFC 4443, 2.3)."""
    for _, packet in (
        neighbour_solicitation(mac, None, target),
        neighbour_solicitation(mac, MINE_6, target),
        neighbour_advertisement(mac, target),
    ):
        body = packet[40:]
        pseudo = packet[8:40] + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body
        assert _checksum(pseudo) == 0
        assert int.from_bytes(packet[4:6], "big") == len(body)


PARSED = [
    pytest.param(parse_arp, ARP_REQUEST, (Sighting(address=MINE, mac=MAC_TEXT),), id="arp-request"),
    pytest.param(
        parse_arp,
        arp_request(MAC, MINE, MINE),
        (Sighting(address=MINE, mac=MAC_TEXT),),
        id="arp-announcement",
    ),
    pytest.param(
        parse_arp,
        arp_request(MAC, None, OTHER),
        (Sighting(address=OTHER, mac=MAC_TEXT, probing=True),),
        id="arp-probe",
    ),
    pytest.param(
        parse_arp,
        bytes.fromhex("0001080006040002 0a580a800005 0a800005 0a580a800009 0a800009"),
        (Sighting(address=MINE, mac=MAC_TEXT),),
        id="arp-reply",
    ),
    pytest.param(
        parse_arp,
        bytes.fromhex("0001080006040002 0a580a800005 0a800005 0a580a800009 0a800005"),
        (Sighting(address=MINE, mac=MAC_TEXT, answering=True),),
        id="arp-answer-to-an-announcement",
    ),
    pytest.param(
        parse_arp,
        bytes.fromhex("0001080006040002 0a580a800005 0a800005 0a580a800005 0a800005"),
        (Sighting(address=MINE, mac=MAC_TEXT),),
        id="arp-announcement-by-reply",
    ),
    pytest.param(
        parse_arp,
        bytes.fromhex("0001080006040002 0a580a800005 0a800005 0a580a800009 00000000"),
        (Sighting(address=MINE, mac=MAC_TEXT),),
        id="arp-answer-to-a-probe",
    ),
    pytest.param(
        lambda packet: parse_neighbour(packet, MAC),
        neighbour_advertisement(MAC, MINE_6)[1],
        (Sighting(address=MINE_6, mac=MAC_TEXT),),
        id="advertisement",
    ),
    pytest.param(
        lambda packet: parse_neighbour(packet, MAC),
        neighbour_solicitation(MAC, None, OTHER_6)[1],
        (Sighting(address=OTHER_6, mac=MAC_TEXT, probing=True),),
        id="our-dad-probe",
    ),
    pytest.param(
        lambda packet: parse_neighbour(packet, MAC),
        DAD_PROBE,
        (Sighting(address=IPv6Address("fe80::7c44:85ff:fe03:52ac"), mac=MAC_TEXT, probing=True),),
        id="linux-dad-probe",
    ),
]


@pytest.mark.parametrize(("parse", "packet", "expected"), PARSED)
def test_parsed(parse: object, packet: bytes, expected: tuple[Sighting, ...]) -> None:
    """A packet shows who is there, whole and with padding behind it."""
    assert callable(parse)
    assert parse(packet) == expected
    assert parse(packet + bytes(18)) == expected


@pytest.mark.parametrize(("parse", "packet", "expected"), PARSED)
def test_truncated(parse: object, packet: bytes, expected: tuple[Sighting, ...]) -> None:
    """A packet cut anywhere before its last fact shows nothing, and breaks nothing."""
    assert callable(parse)
    needed = 28 if len(packet) == 28 else 64
    for length in range(needed):
        assert parse(packet[:length]) == ()
    assert parse(packet[:needed]) == expected


def with_byte(packet: bytes, at: int, value: int) -> bytes:
    """The packet with one byte changed."""
    return packet[:at] + bytes([value]) + packet[at + 1 :]


NA = neighbour_advertisement(MAC, MINE_6)[1]


@pytest.mark.parametrize(
    ("parse", "packet"),
    [
        pytest.param(parse_arp, with_byte(ARP_REQUEST, 1, 6), id="arp-other-hardware"),
        pytest.param(parse_arp, with_byte(ARP_REQUEST, 2, 0x86), id="arp-other-protocol"),
        pytest.param(parse_arp, with_byte(ARP_REQUEST, 4, 8), id="arp-other-length"),
        pytest.param(
            parse_arp, with_byte(arp_request(MAC, None, OTHER), 7, 2), id="arp-reply-of-nobody"
        ),
        pytest.param(parse_neighbour, with_byte(NA, 0, 0x40), id="not-ipv6"),
        pytest.param(parse_neighbour, with_byte(NA, 6, 17), id="not-icmpv6"),
        pytest.param(parse_neighbour, with_byte(NA, 7, 254), id="routed"),
        pytest.param(parse_neighbour, with_byte(NA, 40, 134), id="router-advertisement"),
        pytest.param(parse_neighbour, ROUTER_SOLICITATION, id="router-solicitation"),
        pytest.param(parse_neighbour, SOLICITATION, id="resolution-by-somebody"),
    ],
)
def test_shows_nothing(parse: object, packet: bytes) -> None:
    """What is no ARP or neighbour discovery of this link, or claims nothing, shows nobody."""
    assert callable(parse)
    found = parse(packet) if parse is parse_arp else parse(packet, MAC)
    assert found == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_read(packet: bytes) -> None:
    """Nothing that a station may send breaks a parser."""
    for found in (parse_arp(packet), parse_neighbour(packet, MAC)):
        assert all(isinstance(sighting, Sighting) for sighting in found)


@given(st.binary(min_size=6, max_size=6))
def test_mac_round_trip(mac: bytes) -> None:
    """MAC addresses are read as they are written."""
    assert parse_mac(render_mac(mac)) == mac
