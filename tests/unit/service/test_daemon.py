"""What a mode gets from the service, piece by piece."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from egress_router.service.daemon import Service
from egress_router.service.place import Place

ALONE, FIRST, WORKER = Place(), Place(number=0, count=2), Place(number=1, count=2)


class Opened:
    """A socket that says whether it was closed."""

    def __init__(self, asked: list[str], *, shared: bool) -> None:
        self._asked = asked
        asked.append("shared" if shared else "alone")

    def close(self) -> None:
        self._asked.append("closed")


@pytest.mark.parametrize(
    ("place", "serves", "expected"),
    [
        pytest.param(ALONE, False, ["alone"], id="one process"),
        pytest.param(FIRST, False, ["alone", "closed", "shared"], id="first, before it serves"),
        pytest.param(FIRST, True, ["shared"], id="first, others may listen"),
        pytest.param(WORKER, True, ["shared"], id="worker"),
    ],
)
def test_a_port_is_shared_only_with_ourselves(
    place: Place, serves: bool, expected: list[str]
) -> None:
    """Another program is looked for before a port is shared, while none of us can listen there."""
    asked: list[str] = []
    service: Any = SimpleNamespace(place=place, lifecycle=SimpleNamespace(serves=serves))
    sockets = Service.open_listeners(service, lambda *, shared: (Opened(asked, shared=shared),))  # type: ignore[arg-type]
    assert asked == expected
    assert len(sockets) == 1
