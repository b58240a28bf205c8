"""What is dialled for some addresses, and in which order."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from egress_router.net.egress import Egress
from egress_router.net.upstreams import KEPT_MAX, Upstream, Upstreams, interleave

if TYPE_CHECKING:
    from egress_router.net.endpoint import IPAddress

SOURCE = ip_address("192.168.12.99")
FOUR_ONLY = Egress(source4=SOURCE, link="macvlan0")
A, B, SIX = map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1"))


def addresses(*texts: str) -> tuple[IPAddress, ...]:
    """Parsed."""
    return tuple(map(ip_address, texts))


INTERLEAVED = [
    ((), ()),
    (("192.0.2.1", "192.0.2.2"), ("192.0.2.1", "192.0.2.2")),
    (("192.0.2.1", "192.0.2.2", "2001:db8::1"), ("192.0.2.1", "2001:db8::1", "192.0.2.2")),
    (("2001:db8::1", "192.0.2.1", "2001:db8::2"), ("2001:db8::1", "192.0.2.1", "2001:db8::2")),
    (("192.0.2.1", "192.0.2.1"), ("192.0.2.1",)),
]


@pytest.mark.parametrize(("given", "expected"), INTERLEAVED)
def test_families_take_turns(given: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """The first address's family begins, then they alternate; no address comes twice."""
    assert interleave(addresses(*given)) == addresses(*expected)


def test_only_families_with_a_source_and_bound_to_it() -> None:
    """What cannot leave with our source is not dialled at all."""
    (first, second) = Upstreams().of((A, SIX, B), 443, FOUR_ONLY)
    assert [one.address for one in (first, second)] == [A, B]
    assert (first.source, first.socket_address()) == (("192.168.12.99", 0), ("192.0.2.1", 443))
    assert second.text == "192.0.2.2:443"


def test_the_same_question_has_the_same_answer() -> None:
    """Known by the identity of what is asked; another port or way out is another question."""
    upstreams = Upstreams()
    asked = (A, B)
    answer = upstreams.of(asked, 443, FOUR_ONLY)
    assert upstreams.of(asked, 443, FOUR_ONLY) is answer
    assert upstreams.of(asked, 80, FOUR_ONLY)[0].port == 80
    other = Egress(source4=ip_address("192.168.12.98"))
    assert upstreams.of(asked, 443, other)[0].source == ("192.168.12.98", 0)
    assert upstreams.of(asked, 443, Egress()) == ()


def test_memory_is_bounded() -> None:
    """Clients choose the names: what was asked for first is forgotten first."""
    upstreams = Upstreams()
    asked = (A, B)
    first = upstreams.of(asked, 1, FOUR_ONLY)
    for port in range(2, KEPT_MAX + 2):
        last = upstreams.of(asked, port, FOUR_ONLY)
    assert upstreams.of(asked, port, FOUR_ONLY) is last
    assert upstreams.of(asked, 1, FOUR_ONLY) is not first


def test_a_zone_is_looked_up_each_time() -> None:
    """A link may come back with another index; one that is gone is an error of the system."""
    egress = Egress(source6=ip_address("fe80::99"))
    assert Upstream(ip_address("fe80::1%lo"), 53, egress).socket_address() == ("fe80::1", 53, 0, 1)
    with pytest.raises(OSError, match="no interface"):
        Upstream(ip_address("fe80::1%gone0"), 53, egress).socket_address()
