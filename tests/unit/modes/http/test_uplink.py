"""The way out: what is decided before anything is dialled."""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import pytest

from egress_router.config.http import parse_http
from egress_router.config.settings import Environment
from egress_router.modes.http.failure import FailureError
from egress_router.modes.http.ledger import Record
from egress_router.modes.http.uplink import Uplink
from egress_router.net.poller import Poller
from egress_router.net.resolution import Resolution, Source, State
from egress_router.policy.target import parse_authority

if TYPE_CHECKING:
    from egress_router.net.resolver import Resolver

ANSWER = Resolution(
    name="half.test",
    addresses=(ip_address("198.51.100.1"),),
    ttl_s=60,
    expires=60,
    source=Source.DNS,
    state=State.FRESH,
)


class Scripted:
    """A resolver with one answer."""

    def __init__(self, answer: Resolution) -> None:
        self.answer = answer
        self.asked = 0

    async def resolve(self, _name: str) -> Resolution:
        self.asked += 1
        return self.answer


async def decided(rules: str, failed: tuple[int, ...]) -> tuple[Record, int]:
    """What two requests for the same name come to, and how often it was looked up."""
    environment = Environment(variables={"EGRESS_HTTP_PROXY_DESTINATION": rules})
    resolver = Scripted(dataclasses.replace(ANSWER, failed_families=failed))
    poller = Poller(asyncio.get_running_loop())
    uplink = Uplink(parse_http(environment), cast("Resolver", resolver), poller)
    record = Record("192.0.2.1:5")
    try:
        for _ in range(2):
            await uplink.decide(parse_authority("half.test:443"), record)
    finally:
        uplink.close()
        poller.close()
    return record, resolver.asked


def test_half_an_answer_does_not_allow_what_the_other_half_may_deny() -> None:
    """B2-30: the IPv6 lookup failed, and a line denies an IPv6 network: nothing is dialled."""
    with pytest.raises(FailureError) as caught:
        asyncio.run(decided("!2001:db8::/32\n*", (6,)))
    assert caught.value.status == 502
    assert "line 1 '!2001:db8::/32' may deny" in caught.value.logged
    assert "IPv6 addresses of half.test" in caught.value.logged


@pytest.mark.parametrize(
    ("rules", "failed"), [("!2001:db8::/32\n*", ()), ("*", (6,)), ("half.test", (6,))]
)
def test_half_an_answer_is_enough_where_nothing_denies(rules: str, failed: tuple[int, ...]) -> None:
    """No line asks for the other family: the addresses that are known are used, and remembered."""
    record, asked = asyncio.run(decided(rules, failed))
    assert record.rule is not None
    assert asked == 1
