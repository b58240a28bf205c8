"""What init says on the outside link, and in which order, told by a station that only notes it."""

from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from egress_router.errors import AddressConflictError
from egress_router.kernel.packets import Sighting
from egress_router.programs.init import _introduce
from model.environments import configure

SOURCE = IPv4Address("192.168.12.99")
HOLDER = Sighting(address=SOURCE, mac="02:00:00:00:00:07")


class Noting:
    """A station that hears what it is given, question by question."""

    def __init__(self, *heard: Sighting | None) -> None:
        self.said: list[str] = []
        self._heard = list(heard)

    def announce(self, _addresses: object) -> None:
        self.said.append("announce")

    def find(self, *_: object, **__: object) -> str:
        self.said.append("find")
        return "02:00:00:00:00:01"

    def challenger(self, *, until: float = 0.0, proxies: object = ()) -> Sighting | None:
        self.said.append(f"listen {'on' if until else 'back'} {list(proxies) or ''}".rstrip())
        return self._heard.pop(0)


def introduce(station: Noting) -> None:
    """Introduces a plain router."""
    namespace: Any = SimpleNamespace(station=lambda *_: station)
    desired: Any = SimpleNamespace(egress="macvlan0")
    interruption: Any = SimpleNamespace(check=lambda: None)
    _introduce(configure(), namespace, desired, interruption)


def test_nobody_objects() -> None:
    """It announces, finds the gateway, listens for objections, and announces again."""
    station = Noting(None, None)
    introduce(station)
    assert station.said == [
        "listen back",
        "announce",
        "find",
        "listen on ['02:00:00:00:00:01']",
        "announce",
    ]


@pytest.mark.parametrize(
    ("heard", "announced"), [((HOLDER,), 0), ((None, HOLDER), 1)], ids=["before", "after"]
)
def test_somebody_objects(heard: tuple[Sighting | None, ...], announced: int) -> None:
    """A holder that is known by then is not announced over; one that objects is, once."""
    station = Noting(*heard)
    with pytest.raises(AddressConflictError, match="held by 02:00:00:00:00:07; it answered no"):
        introduce(station)
    assert station.said.count("announce") == announced
