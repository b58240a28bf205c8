"""Which open tunnels other rules still allow."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from egress_router.config.http_rules import parse_http_rules
from egress_router.modes.http.ledger import Record
from egress_router.modes.http.tunnels import BATCH, Tunnels
from egress_router.policy.rules import Policy, compile_rules
from egress_router.policy.target import parse_authority

pytestmark = pytest.mark.interpreted


class Relay:
    """Knows whether it was cut."""

    def __init__(self) -> None:
        self.was_cut = False

    def cut(self) -> None:
        """Remembers it."""
        self.was_cut = True


def record(target: str, address: str) -> Record:
    """A tunnel's record."""
    made = Record("10.0.0.9:4000")
    made.target, made.address = parse_authority(target), ip_address(address)
    return made


def policy(text: str) -> Policy:
    """Compiled rules."""
    return compile_rules(parse_http_rules(text))


@pytest.mark.parametrize(
    ("rules", "stays"),
    [
        ("*", True),
        ("www.example.com", True),
        ("203.0.113.0/24", True),
        ("www.example.com:443", True),
        ("www.example.com:80", False),
        ("!203.0.113.7\n*", False),
        ("!203.0.113.8\n*", True),  # another address of the name is not looked up
        ("other.example.com", False),
    ],
)
def test_a_tunnel_is_judged_by_its_target_and_its_address(rules: str, stays: bool) -> None:
    """What is denied is cut, and its line says by which rule."""
    tunnels, relay = Tunnels(), Relay()
    one = record("www.example.com:443", "203.0.113.7")
    tunnels.add(one, relay)
    assert asyncio.run(tunnels.renew(policy(rules))) == (0 if stays else 1)
    assert relay.was_cut is not stays
    assert bool(one.revoked) is not stays


def test_a_tunnel_that_opens_late_is_judged_too() -> None:
    """One that was asked for under the old rules does not slip through while it was dialled."""
    tunnels, late, new = Tunnels(), Relay(), Relay()
    asked_before = record("www.example.com:443", "203.0.113.7")
    asyncio.run(tunnels.renew(policy("other.example.com")))
    tunnels.add(asked_before, late)
    assert late.was_cut
    asked_after = record("www.example.com:443", "203.0.113.7")
    tunnels.add(asked_after, new)
    assert not new.was_cut, "what is asked for now has been judged by the rules in force"


def test_many_tunnels_leave_the_loop_its_turns() -> None:
    """Between two batches others run; one that ends meanwhile is not cut."""
    tunnels = Tunnels()
    pairs = [(record("www.example.com:443", "203.0.113.7"), Relay()) for _ in range(BATCH + 1)]
    for one, relay in pairs:
        tunnels.add(one, relay)

    async def renew() -> int:
        task = asyncio.create_task(tunnels.renew(policy("other.example.com")))
        await asyncio.sleep(0)
        tunnels.discard(pairs[-1][0])
        return await task

    assert asyncio.run(renew()) == BATCH
    assert not pairs[-1][1].was_cut
