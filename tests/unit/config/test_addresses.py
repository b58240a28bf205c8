import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.addresses import Address, parse_address, unusable
from model.environments import GATEWAY, GATEWAY_6, SOURCE, SOURCE_6, complaints, configure

SOURCE_INVALID = "EGRESS_SOURCE unspecified or invalid"
GATEWAY_INVALID = "EGRESS_GATEWAY unspecified or invalid"

NO_ADDRESS = [
    pytest.param(None, id="B1-1-unset"),
    pytest.param("", id="B1-1-empty"),
    pytest.param(" \t", id="B1-1-blank"),
    pytest.param(",", id="separators-only"),
    pytest.param("router.example.test", id="B1-1-name"),
    pytest.param("999.1.1.1", id="B1-1-999"),
    pytest.param("010.0.0.1", id="B1-1-leading-zero"),
    pytest.param("10.1.2", id="three-parts"),
    pytest.param("0x7f.1", id="hex"),
    pytest.param("2130706433", id="one-number"),
    pytest.param("١٠.1.2.3", id="arabic-digits"),
    pytest.param("224.0.0.5", id="B1-1-multicast"),
    pytest.param("ff02::1", id="B1-1-multicast-6"),
    pytest.param("127.0.0.1", id="B1-1-loopback"),
    pytest.param("::1", id="B1-1-loopback-6"),
    pytest.param("0.0.0.0", id="unspecified"),
    pytest.param("::", id="unspecified-6"),
    pytest.param("0.1.2.3", id="this-network"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("::ffff:192.168.12.99", id="B1-1-mapped"),
    pytest.param("fe80::1%eth0", id="B1-1-zone"),
    pytest.param("[2001:db8::1]", id="brackets"),
    pytest.param("\u00a0192.168.12.99", id="B1-7-nbsp"),
    pytest.param("192.168.12.99\u00a0", id="B1-7-nbsp-behind"),
    pytest.param("\ufeff192.168.12.99", id="B1-7-bom"),
    pytest.param("192.168.12.99; reboot", id="B1-8-shell"),
    pytest.param("$(id)", id="B1-8-substitution"),
]


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_source_refused(text: str | None) -> None:
    """What is no address of a host on the outside network is refused in the originals' words."""
    found = complaints(EGRESS_SOURCE=text)
    assert found
    assert found[0].startswith(SOURCE_INVALID)


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_gateway_refused(text: str | None) -> None:
    """What is no address of a gateway is refused in the originals' words."""
    found = complaints(EGRESS_GATEWAY=text)
    assert found
    assert found[0].startswith(GATEWAY_INVALID)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(f"{SOURCE}/33", "expected a prefix length from 1 to 32", id="B1-1-33"),
        pytest.param(f"{SOURCE}/0", "expected a prefix length from 1 to 32", id="zero"),
        pytest.param(f"{SOURCE}/", "expected a prefix length from 1 to 32", id="no-length"),
        pytest.param(f"{SOURCE}/024", "expected a prefix length from 1 to 32", id="leading-zero"),
        pytest.param(f"{SOURCE}/255.255.255.0", "expected a prefix length", id="netmask"),
        pytest.param(f"{SOURCE}/24/24", "expected a prefix length", id="two-lengths"),
        pytest.param("2001:db8::1/129", "expected a prefix length from 1 to 128", id="129"),
        pytest.param("192.168.12.0/24", "the network address of 192.168.12.0/24", id="B1-3-net"),
        pytest.param("2001:db8::/64", "the network address of 2001:db8::/64", id="B1-3-net-6"),
        pytest.param("192.168.12.255/24", "the broadcast address", id="B1-3-broadcast"),
        pytest.param("fe80::99", "a link-local address", id="link-local"),
        pytest.param(f"{SOURCE} 192.168.12.98", "expected one IPv4 address", id="two-of-a-family"),
        pytest.param(f"{SOURCE_6},2001:db8::2", "expected one IPv6 address", id="two-of-ipv6"),
    ],
)
def test_source_refused_with_the_reason(text: str, reason: str) -> None:
    """A refused source is answered with what is wrong about it."""
    found = complaints(EGRESS_SOURCE=text, EGRESS_GATEWAY=f"{GATEWAY} {GATEWAY_6}")
    assert any(line.startswith(SOURCE_INVALID) and reason in line for line in found), found


@pytest.mark.parametrize(
    ("text", "expected", "explicit"),
    [
        pytest.param(SOURCE, f"{SOURCE}/32", False, id="B1-2-no-mask"),
        pytest.param(f"{SOURCE}/24", f"{SOURCE}/24", True, id="mask"),
        pytest.param(f"  {SOURCE}/24\r\n", f"{SOURCE}/24", True, id="blanks-around"),
        pytest.param(f",{SOURCE}/24,", f"{SOURCE}/24", True, id="stray-commas"),
        pytest.param("192.168.12.0/31", "192.168.12.0/31", True, id="point-to-point"),
        pytest.param("192.168.12.255/31", "192.168.12.255/31", True, id="point-to-point-high"),
        pytest.param("192.168.12.0", "192.168.12.0/32", False, id="host-zero-without-mask"),
        pytest.param("10.0.0.1/1", "10.0.0.1/1", True, id="shortest"),
    ],
)
def test_source_accepted(text: str, expected: str, explicit: bool) -> None:
    """A host's address is accepted with its length, which is a host's where none is written."""
    (source,) = configure(EGRESS_SOURCE=text).identity.sources
    assert str(source.interface) == expected
    assert source.address == ipaddress.ip_interface(expected).ip
    assert (source.version, source.explicit_length) == (4, explicit)


@pytest.mark.parametrize("separator", [",", " ", ", ", "\t", "\n", "\r\n", " ,\t"])
def test_two_families(separator: str) -> None:
    """One address of each family may be given in any order, and IPv4 comes first."""
    identity = configure(
        EGRESS_SOURCE=f"{SOURCE_6}/64{separator}{SOURCE}/24",
        EGRESS_GATEWAY=f"{GATEWAY_6}{separator}{GATEWAY}",
    ).identity
    assert [str(s.interface) for s in identity.sources] == [f"{SOURCE}/24", f"{SOURCE_6}/64"]
    assert [str(gateway) for gateway in identity.gateways] == [GATEWAY, GATEWAY_6]
    assert str(identity.source(6).address) == SOURCE_6
    assert str(identity.gateway(4)) == GATEWAY


@pytest.mark.parametrize(
    ("gateway", "accepted"),
    [
        pytest.param("198.51.100.1", True, id="B1-2-outside-the-prefix"),
        pytest.param(SOURCE, False, id="B1-3-is-the-source"),
        pytest.param(GATEWAY_6, False, id="other-family"),
        pytest.param(f"{GATEWAY} {GATEWAY_6}", False, id="one-without-source"),
        pytest.param(f"{GATEWAY} 192.168.12.2", False, id="two-of-a-family"),
        pytest.param(f"{GATEWAY}/24", False, id="with-length"),
    ],
)
def test_gateway_against_source(gateway: str, accepted: bool) -> None:
    """Each source needs one gateway of its family, which is another address than itself."""
    found = complaints(EGRESS_GATEWAY=gateway)
    assert accepted is not bool(found)
    assert all(line.startswith(GATEWAY_INVALID) for line in found)


def test_missing_family_is_absent() -> None:
    """A family without a source has neither source nor gateway."""
    identity = configure().identity
    assert identity.source(6) is None
    assert identity.gateway(6) is None


def test_link_local_gateway() -> None:
    """An IPv6 gateway may be link-local, as routers' addresses usually are."""
    found = configure(
        EGRESS_SOURCE=SOURCE_6, EGRESS_GATEWAY="fe80::1", EGRESS_DESTINATION="80 tcp 2001:db8::5"
    )
    assert found.identity.gateways == (ipaddress.ip_address("fe80::1"),)


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(ADDRESSES)
def test_every_plain_address_is_read_back(address: Address) -> None:
    """Every address as it is usually written is read; what reading gives has no second form."""
    parsed = parse_address(str(address))
    if address.version == 6 and address.ipv4_mapped:
        assert isinstance(parsed, str)
    else:
        assert parsed == address


@given(st.text())
def test_any_text_is_an_address_or_a_reason(text: str) -> None:
    """Reading never fails otherwise than with a reason in words."""
    parsed = parse_address(text)
    assert isinstance(parsed, Address) or parsed.startswith("expected ")


@given(ADDRESSES)
def test_usable_addresses_can_be_hosts(address: Address) -> None:
    """No multicast, loopback, unspecified or reserved IPv4 address passes."""
    if unusable(address) is None:
        assert not address.is_multicast
        assert not address.is_loopback
        assert not address.is_unspecified
        assert address.version == 6 or not address.is_reserved
