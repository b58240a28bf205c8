from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from egress_router.policy.prefixes import build_prefix_table, prefix_key

BASES = st.sampled_from([0, 1, 0x0A000000, 0x0A000001, 0x0A0000FF, 0x0AFF0000, 0xFFFFFFFF])
NETWORKS = st.one_of(
    st.builds(lambda n, k: IPv4Network((n, k), strict=False), BASES, st.integers(0, 32)),
    st.builds(lambda n, k: IPv6Network((n << 96 | n, k), strict=False), BASES, st.integers(0, 128)),
)
ADDRESSES = st.one_of(
    BASES.map(lambda n: ip_network((n, 32))[0]),
    BASES.map(lambda n: ip_network((n << 96 | n, 128))[0]),
)


def test_an_address_and_its_own_network_share_a_key() -> None:
    """`10.0.0.1` and `10.0.0.1/32` are one destination."""
    assert prefix_key(ip_address("10.0.0.1")) == prefix_key(ip_network("10.0.0.1/32"))


@given(st.sets(NETWORKS, max_size=20), ADDRESSES, st.integers(0, 128))
def test_the_table_finds_what_a_walk_would(
    networks: set[IPv4Network | IPv6Network], address: object, shortest: int
) -> None:
    """A lookup gives exactly the networks that hold the address, most specific first."""
    table = build_prefix_table({prefix_key(network): network for network in networks})
    found = list(table.containing(address, shortest=shortest))
    walked = [n for n in networks if address in n and n.prefixlen >= shortest]
    assert found == sorted(walked, key=lambda network: -network.prefixlen)
