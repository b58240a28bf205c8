from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.http_destination import Kind, Value, parse_destination


@pytest.mark.parametrize(
    ("text", "kind", "value", "ports"),
    [
        ("*", Kind.ANY, "*", None),
        ("*:443", Kind.ANY, "*", (443, 443)),
        ("203.0.113.7", Kind.ADDRESS, IPv4Address("203.0.113.7"), None),
        ("203.0.113.7:80", Kind.ADDRESS, IPv4Address("203.0.113.7"), (80, 80)),
        ("203.0.113.0/24", Kind.NETWORK, IPv4Network("203.0.113.0/24"), None),
        ("203.0.113.0/24:1-65535", Kind.NETWORK, IPv4Network("203.0.113.0/24"), (1, 65535)),
        ("203.0.113.7/32", Kind.NETWORK, IPv4Network("203.0.113.7/32"), None),
        ("2001:DB8::1:80", Kind.ADDRESS, IPv6Address("2001:db8::1:80"), None),
        ("[2001:db8::1]:80", Kind.ADDRESS, IPv6Address("2001:db8::1"), (80, 80)),
        ("[2001:db8::1]", Kind.ADDRESS, IPv6Address("2001:db8::1"), None),
        ("2001:db8::/32", Kind.NETWORK, IPv6Network("2001:db8::/32"), None),
        ("[2001:db8::]/32:80", Kind.NETWORK, IPv6Network("2001:db8::/32"), (80, 80)),
        ("[2001:db8::/32]:80-81", Kind.NETWORK, IPv6Network("2001:db8::/32"), (80, 81)),
        ("WWW.example.com.:8080", Kind.HOST, "www.example.com", (8080, 8080)),
        ("*.Example.com.", Kind.DOMAIN, "example.com", None),
        ("*.com:443", Kind.DOMAIN, "com", (443, 443)),
    ],
)
def test_destinations_become_typed_values(
    text: str, kind: Kind, value: Value, ports: tuple[int, int] | None
) -> None:
    """Each form of a destination gives its kind, its normalised value and its ports."""
    assert parse_destination(text) == (kind, value, ports, "")


@pytest.mark.parametrize(
    ("text", "value", "remark"),
    [
        ("10.0.0.1/8", IPv4Network("10.0.0.0/8"), "host bits"),
        ("2001:db8::1/32", IPv6Network("2001:db8::/32"), "host bits"),
        ("::ffff:10.0.0.1/64", IPv6Network("::/64"), "host bits"),
        ("::ffff:10.0.0.1", IPv4Address("10.0.0.1"), "IPv6 form"),
        ("::ffff:10.0.0.1/104", IPv4Network("10.0.0.0/8"), "IPv6 form"),
    ],
)
def test_doubtful_spellings_carry_a_remark(text: str, value: Value, remark: str) -> None:
    """What the originals took and is certain in meaning is taken, and remarked upon."""
    _, found, _, words = parse_destination(text)
    assert found == value
    assert remark in words
    assert str(value) in words


@pytest.mark.parametrize(
    "port",
    ["", "0", "65536", "08", "+80", "80/tcp", "٨٠", "80-", "-80", "443-80", "1-2-3", "https"],
)
def test_ports_are_plain_numbers_in_order(port: str) -> None:
    """A port is plain decimal from 1 to 65535 and a range runs upwards."""
    with pytest.raises(ValueError, match=r"Invalid port: .*1 to 65535|runs backwards"):
        parse_destination(f"h:{port}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[h]:80", "brackets"),
        ("[1.2.3.4]:80", "brackets"),
        ("[2001:db8::1", "brackets"),
        ("[2001:db8::1]80", "brackets"),
        ("[2001:db8::1]x:80", "brackets"),
        ("2001:db8:::1", "IPv6 address"),
        ("1.2.3", "four plain numbers"),
        ("010.0.0.1", "four plain numbers"),
        ("1.2.3.256", "four plain numbers"),
        ("10.0.0.0/33", "1 to 32"),
        ("10.0.0.0/08", "1 to 32"),
        ("10.0.0.0/255.0.0.0", "1 to 32"),
        ("2001:db8::/129", "1 to 128"),
        ("0.0.0.0/0", "which is written"),
        ("::/0", "which is written"),
        ("example.com/24", "four plain numbers"),
    ],
)
def test_broken_addresses_are_refused_with_the_reason(text: str, reason: str) -> None:
    """An address or network that is not exactly one is refused by name."""
    with pytest.raises(ValueError, match=reason):
        parse_destination(text)


@given(st.text(alphabet="0123456789abcdef.:/[]-*%x!", max_size=40))
def test_any_text_gives_a_destination_or_a_reason(text: str) -> None:
    """No text raises anything but ValueError, and the kind tells the type of the value."""
    try:
        kind, value, _, _ = parse_destination(text)
    except ValueError:
        return
    assert isinstance(value, str) is (kind in {Kind.ANY, Kind.HOST, Kind.DOMAIN})
