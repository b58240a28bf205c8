from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.policy.guard import REFUSED, RefusedRange, build_guard, carried_addresses

GUARD = build_guard((ip_address("10.1.2.3"), ip_address("fd00:1::3")))

CLOSED = [
    ("25", "127.0.0.1", "loopback"),
    ("25", "10.1.2.3", "router itself"),
    ("25", "fd00:1::3", "router itself"),
    ("25", "::ffff:10.1.2.3", "IPv4-mapped"),
    ("25", "64:ff9b::10.1.2.3", "router itself"),
    ("26", "127.255.255.255", "loopback"),
    ("26", "0.0.0.0", "this host"),
    ("26", "0.1.2.3", "this host"),
    ("26", "::", "unspecified"),
    ("26", "::1", "loopback"),
    ("26", "::127.0.0.1", "IPv4-compatible"),
    ("26", "::ffff:127.0.0.1", "IPv4-mapped"),
    ("26", "::ffff:a9fe:a9fe", "IPv4-mapped"),
    ("26", "::ffff:203.0.113.7", "IPv4-mapped"),
    ("26", "::ffff:0:127.0.0.1", "IPv4-translated"),
    ("26", "64:ff9b::7f00:1", "loopback"),
    ("26", "64:ff9b::a9fe:a9fe", "link-local"),
    ("26", "64:ff9b:1::7f00:1", "local NAT64"),
    ("26", "64:ff9b:1:ffff::1", "local NAT64"),
    ("26", "2002:7f00:1::", "loopback"),
    ("26", "2002:a9fe:a9fe::1", "link-local"),
    ("26", "2001:0:7f00:1::", "loopback"),
    ("26", "2001:0:cb00:7107:0:0:80ff:fffe", "loopback"),
    ("26", "224.0.0.1", "multicast"),
    ("26", "239.255.255.255", "multicast"),
    ("26", "ff02::1", "multicast"),
    ("26", "255.255.255.255", "broadcast"),
    ("26", "240.0.0.1", "reserved"),
    ("26", "100::1", "discard"),
    ("26", "fec0::1", "site-local"),
]


@pytest.mark.parametrize(
    ("text", "words"), [row[1:] for row in CLOSED], ids=[f"B2-{row[0]} {row[1]}" for row in CLOSED]
)
def test_closed_addresses_are_refused_with_the_reason(text: str, words: str) -> None:
    """No line can open these; the reason names what the address is."""
    refusal = GUARD.refusal(ip_address(text))
    assert refusal is not None
    assert words in refusal.words
    assert text.lower() in refusal.words or str(ip_address(text)) in refusal.words
    assert refusal.openable_from is None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("169.254.169.254", 16),
        ("169.254.0.1", 16),
        ("fe80::1", 10),
        ("fe80::a9fe:a9fe", 10),
        ("100.100.100.200", 32),
        ("168.63.129.16", 32),
        ("192.0.0.192", 32),
        ("fd00:ec2::254", 32),
        ("fd00:ec2::23", 32),
        ("fd20:ce::254", 128),
        ("fd00:c1::a9fe:a9fe", 128),
        ("fd00:a9fe:a9fe::1", 128),
        ("fd00:100::100:200", 128),
        ("fd00:42::42", 128),
    ],
)
def test_link_local_and_metadata_can_be_opened_from_their_range(text: str, length: int) -> None:
    """B2-26: these are refused, and openable by a line at least as long as their range."""
    refusal = GUARD.refusal(ip_address(text))
    assert refusal is not None
    assert refusal.openable_from == length


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.201",
        "203.0.113.7",
        "198.18.0.1",
        "192.0.0.193",
        "8.8.8.8",
        "223.255.255.255",
        "fd00::1",
        "fd00:42::43",
        "2001:db8::1",
        "2001:1::1",
        "2606:4700::1",
        "64:ff9b::203.0.113.7",
        "64:ff9b::10.0.0.1",
        "2002:cb00:7107::1",
    ],
)
def test_ordinary_and_private_addresses_pass(text: str) -> None:
    """Private ranges are the product's purpose, and a wrapped ordinary address is ordinary."""
    assert GUARD.refusal(ip_address(text)) is None


def test_own_addresses_cannot_be_opened_within_link_local() -> None:
    """An own address stays closed even where its range could be opened."""
    guard = build_guard((ip_address("169.254.7.7"),))
    own, other = (guard.refusal(ip_address(f"169.254.7.{n}")) for n in (7, 8))
    assert own is not None
    assert own.openable_from is None
    assert other is not None
    assert other.openable_from == 16


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: str(row.network))
def test_every_row_refuses_its_first_and_last_address(row: RefusedRange) -> None:
    """Each row of the table is in force from its first to its last address and names a source."""
    assert row.source
    for address in (row.network[0], row.network[-1]):
        assert GUARD.refusal(address) is not None


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        ("64:ff9b::203.0.113.7", ("203.0.113.7",)),
        ("2002:cb00:7107::1", ("203.0.113.7",)),
        ("2001:0:cb00:7107:0:0:39cd:9bf8", ("203.0.113.7", "198.50.100.7")),
        ("2001:db8::1", ()),
        ("64:ff9b:1::1", ()),
        ("203.0.113.7", ()),
    ],
)
def test_carried_addresses_are_read_where_the_rfc_puts_them(
    text: str, carried: tuple[str, ...]
) -> None:
    """NAT64, 6to4 and Teredo addresses give the IPv4 addresses they stand for."""
    assert carried_addresses(ip_address(text)) == tuple(map(ip_address, carried))


@given(st.ip_addresses(v=4), st.sampled_from(["mapped", "nat64", "6to4"]))
def test_wrapping_never_opens_what_is_refused(address: IPv4Address, form: str) -> None:
    """B2-26: if an IPv4 address is refused, so is each IPv6 address that wraps it."""
    number = int(address)
    wrapped = IPv6Address(
        {
            "mapped": 0xFFFF << 32 | number,
            "nat64": 0x64FF9B << 96 | number,
            "6to4": 0x2002 << 112 | number << 80 | 1,
        }[form]
    )
    if GUARD.refusal(address) is not None:
        refusal = GUARD.refusal(wrapped)
        assert refusal is not None
        assert refusal.openable_from is None
