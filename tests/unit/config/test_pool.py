import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.init import InitConfig, parse_init
from egress_router.errors import ConfigurationError
from model.environments import GATEWAY, GATEWAY_6, environment

RANGE = "192.168.12.99-192.168.12.102/24"
RANGE_6 = "2001:db8:12::99-2001:db8:12::9c/64"


def configure(pool: str, hostname: str, **changes: str | None) -> InitConfig:
    """The configuration of a pod of that name, with that pool and no source of its own."""
    changes = {"EGRESS_SOURCE": None, "EGRESS_SOURCE_POOL": pool, **changes}
    return parse_init(environment(hostname=hostname, **changes))


def taken(pool: str, hostname: str, **changes: str | None) -> list[str]:
    """The addresses of that pod, with their lengths."""
    config = configure(pool, hostname, **changes)
    return [str(source.interface) for source in config.identity.sources]


def complaints(pool: str, hostname: str = "egress-0", **changes: str | None) -> list[str]:
    """Every problem, as it is printed."""
    with pytest.raises(ConfigurationError) as caught:
        configure(pool, hostname, **changes)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("pool", "hostname", "expected"),
    [
        pytest.param(RANGE, "egress-0", "192.168.12.99/24", id="first-of-a-range"),
        pytest.param(RANGE, "egress-3", "192.168.12.102/24", id="last-of-a-range"),
        pytest.param("192.168.12.99", "egress-0", "192.168.12.99/32", id="one-without-length"),
        pytest.param("192.168.12.7/24,192.168.12.3/24", "r-1", "192.168.12.3/24", id="as-written"),
        pytest.param(
            f"192.168.12.7/24\n{RANGE}\n", "r-2", "192.168.12.100/24", id="list-and-range"
        ),
        pytest.param(
            "192.168.12.99-192.168.12.99/24", "r-0", "192.168.12.99/24", id="range-of-one"
        ),
        pytest.param(RANGE, "egress-2-1", "192.168.12.100/24", id="number-in-the-set's-name"),
        pytest.param(RANGE, "egress-2.egress.ns.svc", "192.168.12.101/24", id="full-hostname"),
        pytest.param("192.168.12.250-192.168.13.5/23", "r-7", "192.168.13.1/23", id="past-a-zero"),
        pytest.param(
            "192.168.12.254/24 192.168.13.1/24", "r-1", "192.168.13.1/24", id="two-networks"
        ),
    ],
)
def test_the_ordinal_picks(pool: str, hostname: str, expected: str) -> None:
    """The pod NAME-N takes the N-th address of the pool, counted from 0, with its length."""
    assert taken(pool, hostname) == [expected]


@pytest.mark.parametrize("pool", [f"{RANGE} {RANGE_6}", f"{RANGE_6},{RANGE}"])
def test_one_of_each_family(pool: str) -> None:
    """With both families in the pool a pod takes one of each, whatever their order is."""
    gateways = f"{GATEWAY} {GATEWAY_6}"
    expected = ["192.168.12.101/24", "2001:db8:12::9b/64"]
    assert taken(pool, "egress-2", EGRESS_GATEWAY=gateways) == expected


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        pytest.param("egress-4", "the pool holds 4, for the ordinals 0 to 3", id="beyond"),
        pytest.param("egress-99999", "the pool holds 4", id="far-beyond"),
        pytest.param("egress", "ends in no number", id="plain-name"),
        pytest.param("", "ends in no number", id="empty"),
        pytest.param("7", "ends in no number", id="number-alone"),
        pytest.param("egress-", "ends in no number", id="hyphen-alone"),
        pytest.param("egress-01", "ends in no number", id="leading-zero"),
        pytest.param("egress-5d9c7b-x2x4x", "ends in no number", id="a-Deployment's-pod"),
        pytest.param("egress-1b", "ends in no number", id="letter-behind"),
        pytest.param("egress-١", "ends in no number", id="arabic-digit"),
        pytest.param("egress.0-1", "ends in no number", id="number-in-the-domain"),
    ],
)
def test_a_pod_without_a_share(hostname: str, expected: str) -> None:
    """A pod that no address belongs to is told why, by its name and the pool's size."""
    (found,) = complaints(RANGE, hostname)
    assert found.startswith("EGRESS_SOURCE_POOL: ")
    assert f"'{hostname}'" in found
    assert expected in found


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        pytest.param(",", "holds no address", id="separators-only"),
        pytest.param("router.example.test", "expected an IPv4 or IPv6 address", id="B1-1-name"),
        pytest.param("a-b", "expected ADDRESS[/LEN] or ADDRESS-ADDRESS[/LEN]", id="names"),
        pytest.param("192.168.12.99-102/24", "ADDRESS-ADDRESS[/LEN]", id="last-part-only"),
        pytest.param("192.168.12.99-", "ADDRESS-ADDRESS[/LEN]", id="open-end"),
        pytest.param("192.168.12.99 - 192.168.12.102", "'-' is invalid", id="blanks-around-hyphen"),
        pytest.param("192.168.12.102-192.168.12.99/24", "ends before it begins", id="backwards"),
        pytest.param("192.168.12.99-2001:db8::1", "one end is IPv4", id="two-families"),
        pytest.param("192.168.12.99/24-192.168.12.102/24", "ADDRESS-ADDRESS", id="length-twice"),
        pytest.param("192.168.12.99-192.168.12.102/33", "a prefix length from 1 to 32", id="33"),
        pytest.param("192.168.12.99-192.168.12.102/", "a prefix length from 1 to 32", id="none"),
        pytest.param("192.168.12.96/29", "the network address of 192.168.12.96/29", id="network"),
        pytest.param(
            "192.168.12.250-192.168.12.255/24", "'192.168.12.255': the broadcast", id="broadcast"
        ),
        pytest.param(
            "192.168.12.90-192.168.12.102/29", "'192.168.12.95': the broadcast", id="crosses"
        ),
        pytest.param("2001:db8::1-2001:db8::2:1/120", "more than 1024", id="endless"),
        pytest.param("2001:db8::fffe-2001:db8::1:1/112", "network address", id="crosses-6"),
        pytest.param("10.0.0.0-10.0.0.5/31", "more than one /31 network", id="point-to-point"),
        pytest.param(f"{RANGE} 192.168.12.100", "'192.168.12.100' is in the pool 2", id="twice"),
        pytest.param("224.0.0.1-224.0.0.2", "'224.0.0.1': a multicast address", id="multicast"),
        pytest.param(f"{RANGE} 2001:db8:12::99/64", "4 IPv4 and 1 IPv6", id="uneven-families"),
    ],
)
def test_pool_refused(pool: str, expected: str) -> None:
    """What is no pool is refused, with the word that is wrong and what was expected."""
    told = complaints(pool, "egress-0", EGRESS_GATEWAY=f"192.168.12.254 {GATEWAY_6}")
    assert any(expected in line for line in told), told


def test_the_gateway_is_no_source_of_any_pod() -> None:
    """A gateway inside the pool is found in every pod, not only in the one that would take it."""
    (found,) = complaints("192.168.12.1-192.168.12.4/24", "egress-3")
    assert found == (
        f"EGRESS_GATEWAY unspecified or invalid: '{GATEWAY}' is the source address itself"
    )


def test_a_family_without_gateway() -> None:
    """Each family of the pool needs its gateway, and the message names the pool."""
    (found,) = complaints(f"{RANGE} {RANGE_6}")
    assert "no IPv6 gateway" in found
    assert "EGRESS_SOURCE_POOL" in found


def test_source_and_pool_exclude_each_other() -> None:
    """Both variables at once are an error that says so, and nothing else is complained about."""
    (found,) = complaints(RANGE, EGRESS_SOURCE="192.168.12.99/24")
    assert found == (
        "EGRESS_SOURCE_POOL: both EGRESS_SOURCE and EGRESS_SOURCE_POOL are set; expected one"
    )


@given(first=st.integers(1, 200), count=st.integers(1, 50), data=st.data())
def test_no_two_pods_share(first: int, count: int, data: st.DataObject) -> None:
    """The pods of a set take all of the pool's addresses, each one once, in order."""
    low = ipaddress.IPv4Address("10.9.0.0") + first
    addresses = [low + step for step in range(count)]
    cuts = data.draw(st.sets(st.integers(1, count)))
    words, begin = [], 0
    for end in sorted(cuts | {count}):
        words.append(f"{addresses[begin]}-{addresses[end - 1]}/16")
        begin = end
    pods = [taken(",".join(words), f"set-{n}", EGRESS_GATEWAY="10.9.255.254") for n in range(count)]
    assert pods == [[f"{address}/16"] for address in addresses]
