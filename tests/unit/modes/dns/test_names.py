"""A followed name: which addresses are in use, how long, and when it is looked up again."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.modes.dns.names import Knowledge, Name
from egress_router.modes.dns.outside import Outside
from egress_router.net.resolution import (
    Resolution,
    ResolutionCause,
    ResolutionError,
    Source,
    State,
)
from egress_router.plan.snapshot import Router

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 86_400.0
FIRST, SECOND, SIX = "203.0.113.10", "203.0.113.11", "2001:db8::1"


class Scene:
    """A name, a clock, and a resolver that says what it is told to."""

    def __init__(self, outside: Outside, *, literal: Any = None) -> None:
        self.now = 1000.0
        self.answer: Resolution | ResolutionError | None = None
        self.changes = 0
        self.name = Name("www.test", outside, literal=literal, clock=lambda: self.now)
        self.name.followers.append(self._count)

    def _count(self) -> None:
        self.changes += 1

    async def resolve(self, _name: str, _families: tuple[int, ...]) -> Resolution:
        """What the resolver offers."""
        if isinstance(self.answer, ResolutionError):
            raise self.answer
        assert self.answer is not None
        return self.answer

    def found(self, *addresses: str, ttl_s: float = 60.0, **more: Any) -> float:
        """Looks the name up, which finds these; the seconds until the next time."""
        state, source = more.get("state", State.FRESH), more.get("source", Source.DNS)
        self.answer = Resolution(
            name="www.test",
            addresses=tuple(map(ip_address, addresses)),
            ttl_s=ttl_s,
            expires=0.0,
            source=source,
            state=state,
            failed_families=more.get("failed_families", ()),
        )
        return asyncio.run(self.name.look_up(self))  # type: ignore[arg-type]  # it resolves

    def failed(self, cause: ResolutionCause) -> float:
        """Looks the name up, which fails; the seconds until the next time."""
        self.answer = ResolutionError("www.test", cause, "because")
        return asyncio.run(self.name.look_up(self))  # type: ignore[arg-type]  # as above

    @property
    def known(self) -> tuple[list[str], Knowledge]:
        """Addresses in use, and how good they are."""
        return [str(address) for address in self.name.addresses], self.name.state


def router(*sources: str) -> Router:
    """A router with these source addresses."""
    return Router(
        egress="macvlan0",
        cluster="eth0",
        sources=tuple(map(ip_address, sources)),
        gateways=(),
        cluster_addresses=(IPv4Address("10.128.0.5"), IPv6Address("fd00::5")),
    )


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The way out of a dual-stack router."""
    made = Outside()
    made.follow(router("192.168.12.99", "2001:db8:12::99"))
    yield made
    made.close()


@pytest.fixture
def scene(outside: Outside) -> Scene:
    """A name of a dual-stack router."""
    return Scene(outside)


def test_an_answer_is_in_use_with_ipv4_first(scene: Scene) -> None:
    """Addresses are sorted, so that a nameserver's rotation changes nothing."""
    scene.found(SIX, SECOND, FIRST)
    assert scene.known == ([FIRST, SECOND, SIX], Knowledge.FRESH)
    before = scene.changes
    scene.found(SECOND, FIRST, SIX)
    assert scene.changes == before


@pytest.mark.parametrize(
    ("ttl_s", "more", "low", "high"),
    [
        (60, {}, 60, 60.1),
        (0, {}, 5, 5.1),
        (2 * DAY_S, {}, DAY_S, DAY_S + 0.1),
        (0.2, {"source": Source.CACHE}, 0.2, 0.3),
        (1, {"source": Source.HOSTS}, 1, 1),
        (3, {"failed_families": (6,)}, 3, 3),
        (0, {"failed_families": (6,)}, 1, 1),
        (0, {"state": State.STALE}, 1, 1),
        (4, {"state": State.STALE}, 4, 4),
    ],
)
def test_when_a_name_is_looked_up_again(
    scene: Scene, ttl_s: float, more: dict[str, Any], low: float, high: float
) -> None:
    """When its TTL ends, within 5 s and a day; a failure sooner; the hosts table every second."""
    assert low <= scene.found(FIRST, ttl_s=ttl_s, **more) <= high


def test_failing_servers_leave_the_last_good_addresses_for_a_day(scene: Scene) -> None:
    """Timeouts and SERVFAIL do not take addresses away, until they are a day old."""
    scene.found(FIRST)
    for cause in (ResolutionCause.TIMED_OUT, ResolutionCause.SERVER_FAILURE):
        scene.now += DAY_S / 2 - 1
        assert scene.failed(cause) == 1
        assert scene.known == ([FIRST], Knowledge.STALE)
    scene.now += 3
    scene.failed(ResolutionCause.TIMED_OUT)
    assert scene.known == ([], Knowledge.FAILED)
    scene.found(SECOND)
    assert scene.known == ([SECOND], Knowledge.FRESH)


@pytest.mark.parametrize("cause", [ResolutionCause.NAME_NOT_FOUND, ResolutionCause.NO_ADDRESS])
def test_an_authoritative_no_is_believed(scene: Scene, cause: ResolutionCause) -> None:
    """The resolver serves stale addresses for 30 s after it; what it says then counts."""
    scene.found(FIRST)
    scene.found(FIRST, state=State.STALE)
    assert scene.known == ([FIRST], Knowledge.STALE)
    scene.failed(cause)
    assert scene.known == ([], Knowledge.FAILED)


def test_a_name_that_never_was_known_waits(scene: Scene) -> None:
    """It says why, and is tried every second."""
    assert scene.failed(ResolutionCause.NAME_NOT_FOUND) == 1
    assert scene.known == ([], Knowledge.WAITING)
    assert "name not found" in scene.name.detail
    assert scene.name.age_s is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "10.128.0.5", "192.168.12.99", "fd00::5", "::ffff:7f00:1"],
)
def test_addresses_that_must_not_be_dialled_are_dropped(scene: Scene, address: str) -> None:
    """Beside others they are left out; alone they are a failure, and the last good ones stay."""
    scene.found(FIRST, address)
    assert scene.known == ([FIRST], Knowledge.FRESH)
    scene.found(address)
    assert scene.known == ([FIRST], Knowledge.STALE)
    assert address in scene.name.detail


def test_families_without_a_source_are_not_used(outside: Outside) -> None:
    """A changed router changes which addresses of the last answer are in use."""
    scene = Scene(outside)
    scene.found(FIRST, SIX)
    outside.follow(router("192.168.12.99"))
    scene.name.judge_again()
    assert scene.known == ([FIRST], Knowledge.FRESH)
    outside.follow(router("192.168.12.99", "2001:db8:12::99"))
    scene.name.judge_again()
    assert scene.known == ([FIRST, SIX], Knowledge.FRESH)


@pytest.mark.parametrize(
    ("address", "used"), [(FIRST, True), ("169.254.1.1", True), ("10.128.0.5", False)]
)
def test_a_written_address(outside: Outside, *, address: str, used: bool) -> None:
    """It may be link-local, since somebody wrote it down; it is never the router itself."""
    scene = Scene(outside, literal=ip_address(address))
    scene.name.judge_again()
    expected = ([address], Knowledge.FRESH) if used else ([], Knowledge.FAILED)
    assert scene.known == expected
