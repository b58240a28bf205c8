"""A name that is followed: its addresses now, whoever needs them and whenever DNS last answered.

1. The name is looked up again when its TTL ends, within 5 s and a day. Until the answer is there
   the last addresses stay in use, so nobody waits and a change is in use as soon as it is known.
2. Failing servers leave the last good addresses in use for a day (RFC 8767), an authoritative no
   for 30 s: both are the resolver's rules. An answer of nothing but addresses that must not be
   dialled is a failure too.
3. A name that is not known is tried every second; the resolver sees to it that no server is asked
   that often.
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from egress_router.net.resolution import ResolutionCause, ResolutionError, Source, State
from egress_router.service import events
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.modes.dns.outside import Outside
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.resolution import Resolution
    from egress_router.net.resolver import Resolver

TTL_MIN_S, TTL_MAX_S = 5.0, 86_400.0
HOSTS_TTL_S = 1.0  # as often as the resolver looks at the hosts table
RETRY_S = 1.0
BEHIND_S = 0.02  # after the expiry, for before it the resolver would give the old answer again
STALE_S = 86_400.0
LOOKUPS_MAX = 64  # names looked up at once: each takes two sockets while it waits

_NO = (ResolutionCause.NAME_NOT_FOUND, ResolutionCause.NO_ADDRESS)


class Knowledge(StrEnum):
    """How good the addresses of a name are; `waiting`: there never were any."""

    WAITING = "waiting"
    FRESH = "fresh"
    STALE = "stale"
    FAILED = "failed"


class Name:
    """One configured name, or an address that is followed like one and never changes."""

    def __init__(
        self,
        text: str,
        outside: Outside,
        *,
        literal: IPAddress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.text = text
        self.addresses: tuple[IPAddress, ...] = ()
        self.state = Knowledge.WAITING
        self.detail = "it was not looked up yet"
        self.literal = literal
        self._outside = outside
        self._clock = clock
        self._answered: tuple[IPAddress, ...] = ()
        self._good_at: float | None = None
        self.looked_up = asyncio.Event()  # set once something is known of it, if only a failure
        # Called after the addresses, or what is known of them, have changed.
        self.followers: list[Callable[[], None]] = []

    @property
    def age_s(self) -> float | None:
        """Seconds since the addresses were last confirmed; None if they never were."""
        return None if self._good_at is None else self._clock() - self._good_at

    def judge_again(self) -> None:
        """The router has changed: which addresses may be dialled may be others now."""
        if self.literal is not None:
            self._take_literal(self.literal)
        elif self._answered:
            self._take(self._answered)

    async def follow(self, resolver: Resolver, lookups: asyncio.Semaphore) -> None:
        """Looks the name up for as long as the daemon lives."""
        while self.literal is None:
            async with lookups:
                wait_s = await self.look_up(resolver)
            await asyncio.sleep(wait_s)

    async def look_up(self, resolver: Resolver) -> float:
        """Looks the name up once; the seconds until it should be done again."""
        families = self._outside.families
        if not families:
            return RETRY_S
        try:
            resolution = await resolver.resolve(self.text, families)
        except ResolutionError as error:
            self._fail(str(error), keep=error.cause not in _NO)
            return RETRY_S
        return self._learn(resolution)

    def _learn(self, resolution: Resolution) -> float:
        if resolution.state is not State.FRESH:
            self._go_stale("its servers fail; the last good addresses stay in use")
            return max(RETRY_S, resolution.ttl_s)
        self._take(resolution.addresses)
        if resolution.source is Source.HOSTS:
            return HOSTS_TTL_S
        if resolution.failed_families:
            return max(RETRY_S, resolution.ttl_s)
        # An answer of TTL 0 is not kept by the resolver: to ask at once would be to ask for ever.
        least = 0.0 if resolution.source is Source.CACHE else TTL_MIN_S
        return min(max(resolution.ttl_s, least), TTL_MAX_S) + BEHIND_S

    def _take(self, answered: tuple[IPAddress, ...]) -> None:
        self._answered = answered
        usable = self._outside.usable(answered)
        if not usable:
            reasons = (self._outside.refusal(address) for address in answered)
            self._fail(f"none of its addresses may be used: {'; '.join(filter(None, reasons))}")
            return
        self._good_at = self._clock()
        self._set(usable, Knowledge.FRESH, "")

    def _take_literal(self, address: IPAddress) -> None:
        refusal = self._outside.refusal(address, written=True)
        if refusal is not None:
            self._set((), Knowledge.FAILED, refusal)
            return
        self._good_at = self._clock()
        self._set((address,), Knowledge.FRESH, "")

    def _fail(self, detail: str, *, keep: bool = True) -> None:
        if keep and self.addresses and (self.age_s or 0.0) < STALE_S:
            self._go_stale(detail)
            return
        known = self._good_at is not None
        self._set((), Knowledge.FAILED if known else Knowledge.WAITING, detail)

    def _go_stale(self, detail: str) -> None:
        self._set(self.addresses, Knowledge.STALE, detail)

    def _set(self, addresses: tuple[IPAddress, ...], state: Knowledge, detail: str) -> None:
        before, was = self.addresses, self.state
        changed = (addresses, state, detail) != (before, was, self.detail)
        news = detail != self.detail and state is Knowledge.WAITING
        self.addresses, self.state, self.detail = addresses, state, detail
        self.looked_up.set()
        if addresses != before and self.literal is None:
            log_event(
                events.DNS_NAME_CHANGED,
                name=self.text,
                addresses=[str(address) for address in addresses],
                before=[str(address) for address in before],
            )
        if (state is not was or news) and state is not Knowledge.FRESH:
            stale = state is Knowledge.STALE
            event = events.DNS_NAME_STALE if stale else events.DNS_NAME_UNKNOWN
            log_event(event, name=self.text, detail=detail)
        elif state is not was and was is not Knowledge.WAITING:
            log_event(events.DNS_NAME_RECOVERED, name=self.text)
        if changed:
            for follower in self.followers:
                follower()
