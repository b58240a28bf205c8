"""The nameservers as /status and its warnings tell of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress_router.net.resolv_conf import Nameserver
from egress_router.net.servers import ServerState
from egress_router.service.nameservers import (
    merge_nameservers,
    nameserver_rows,
    nameserver_warnings,
)


def states(*answered: bool | None) -> tuple[ServerState, ...]:
    """One nameserver for each."""
    return tuple(
        ServerState(server=Nameserver(address=ip_address(f"10.0.0.{n}")), answered=one)
        for n, one in enumerate(answered)
    )


@pytest.mark.parametrize(
    ("answered", "warnings"),
    [
        ((True, None), ()),
        ((), ("DNS: /etc/resolv.conf names no nameserver",)),
        ((True, False), ("DNS: a nameserver does not answer: 10.0.0.1",)),
        ((False, False), ("DNS: no nameserver answers: 10.0.0.0, 10.0.0.1",)),
    ],
)
def test_warnings(answered: tuple[bool | None, ...], warnings: tuple[str, ...]) -> None:
    """Silence is told with the addresses; who was never asked is not blamed."""
    assert nameserver_warnings(nameserver_rows(states(*answered))) == warnings


def test_rows() -> None:
    """Each has its state in words."""
    assert [row["state"] for row in nameserver_rows(states(True, False, None))] == [
        "answers",
        "silent",
        "not asked yet",
    ]


def test_several_processes_tell_the_worst() -> None:
    """Each asks for itself: what one of them has found silent is told, and warned of."""
    tables = [nameserver_rows(states(*one)) for one in ((None, True), (False, None), (True, None))]
    merged = merge_nameservers(tables)
    assert [row["state"] for row in merged] == ["silent", "answers"]
    assert nameserver_warnings(merged) == ("DNS: a nameserver does not answer: 10.0.0.0",)
