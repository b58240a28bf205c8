"""Names become addresses: /etc/hosts first, then the nameservers of /etc/resolv.conf.

1. A name found in the hosts table is never asked for. Names that no query may leave for are not
   found (names.py).
2. One query is in flight for a name and type, however many callers wait for it. A caller that
   leaves does not stop it: its answer is for the next one.
3. A and AAAA are asked for side by side. Once one has addresses the other has a second left; what
   it finds later is for the next caller, and the family is named as failed.
4. Stale addresses, where they are wanted, are used when the lookup has failed or has not ended
   1.8 s after the question (RFC 8767, section 5).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress_router.net.cache import FAILURE_MIN_S, Cache
from egress_router.net.hosts import watch_hosts
from egress_router.net.lookup import Lookup, LookupLimits
from egress_router.net.names import is_unasked, parse_name
from egress_router.net.resolution import (
    Absent,
    Failed,
    Found,
    NameState,
    Resolution,
    ResolutionCause,
    ResolutionError,
    Source,
    State,
)
from egress_router.net.resolv_conf import watch_resolv_conf
from egress_router.net.scan import RecordType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from egress_router.net.cache import Entry, Key
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.hosts import HostsFile
    from egress_router.net.resolution import Outcome
    from egress_router.net.resolv_conf import Servers
    from egress_router.net.scan import Labels
    from egress_router.net.servers import ResolverCounts, ServerState

STALE_ANSWER_S = 1.8  # RFC 8767, section 5: how long a client is kept waiting while stale data lies
OTHER_FAMILY_S = 1.0
RESOLUTION_DELAY_S = 0.05  # RFC 8305, section 3: for a family that failed the last time, too
HOSTS_TTL_S = 1.0  # as often as the file is looked at

_TYPE_OF = {4: RecordType.A, 6: RecordType.AAAA}
_FAMILY_OF = {rtype: family for family, rtype in _TYPE_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """`serve_stale`: whether the last good addresses may outlive their TTL (RFC 8767)."""

    serve_stale: bool
    limits: LookupLimits = field(default_factory=LookupLimits)
    stale_answer_s: float = STALE_ANSWER_S
    other_family_s: float = OTHER_FAMILY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How one family ended, and until when that holds."""

    outcome: Outcome
    source: Source
    state: State
    expires: float


class Resolver:
    """Looks names up for one event loop; close it before the loop ends."""

    def __init__(
        self,
        settings: ResolverSettings,
        *,
        servers: Servers | None = None,
        hosts: HostsFile | None = None,
        clock: Callable[[], float] = time.monotonic,
        random_id: Callable[[], int] = lambda: secrets.randbits(16),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._servers = watch_resolv_conf(clock) if servers is None else servers
        self._hosts = watch_hosts(clock) if hosts is None else hosts
        self._lookup = Lookup(settings.limits, clock=clock, random_id=random_id)
        self._cache = Cache(clock)
        self._in_flight: dict[Key, asyncio.Task[Entry]] = {}

    @property
    def counts(self) -> ResolverCounts:
        """Counters for metrics."""
        return self._lookup.counts

    async def resolve(self, name: str, families: Iterable[int] = (4, 6)) -> Resolution:
        """The name's addresses of the wanted families, IPv4 first.

        Raises ResolutionError when there is none. The name is absolute, with or without its dot.
        """
        wanted = tuple(sorted(set(families)))
        labels = parse_name(name)
        if labels is None:
            raise ResolutionError(
                name, ResolutionCause.NAME_NOT_FOUND, "not a name that can be looked up"
            )
        if listed := self._from_hosts(labels, wanted):
            return Resolution(
                name=name,
                addresses=listed,
                ttl_s=HOSTS_TTL_S,
                expires=self._clock() + HOSTS_TTL_S,
                source=Source.HOSTS,
                state=State.FRESH,
            )
        if is_unasked(labels):
            raise ResolutionError(
                name, ResolutionCause.NAME_NOT_FOUND, "names below it are never asked for"
            )
        results: dict[Key, _Result] = {}
        missing: list[Key] = []
        for key in ((labels, _TYPE_OF[family]) for family in wanted):
            if entry := self._cache.fresh(key):
                results[key] = self._judge(key, entry, Source.CACHE)
            else:
                missing.append(key)
        if missing:
            have = any(isinstance(result.outcome, Found) for result in results.values())
            results |= await self._from_dns(tuple(missing), have=have)
        return self._combine(name, {f: results[labels, _TYPE_OF[f]] for f in wanted})

    def states(self) -> Iterator[NameState]:
        """Every name and family that the cache holds, with its state and age."""
        for (labels, rtype), state, entry, age_s in self._cache.states():
            yield NameState(
                name=b".".join(labels).decode(),
                family=_FAMILY_OF[rtype],
                state=state,
                addresses=entry.good.addresses if entry.good else (),
                age_s=age_s,
            )

    def nameservers(self) -> tuple[ServerState, ...]:
        """The nameservers in use, and whether each answered the last time."""
        return self._lookup.states(self._servers.current())

    async def close(self) -> None:
        """Stops the queries that are still in flight."""
        tasks = tuple(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _from_hosts(self, labels: Labels, families: tuple[int, ...]) -> tuple[IPAddress, ...]:
        listed = self._hosts.current().get(labels, ())
        return tuple(
            address for family in families for address in listed if address.version == family
        )

    async def _from_dns(self, keys: tuple[Key, ...], *, have: bool) -> dict[Key, _Result]:
        loop = asyncio.get_running_loop()
        tasks = {self._ensure_lookup(key): key for key in keys}
        pending: set[asyncio.Task[Entry]] = set(tasks)
        deadline = float("inf")
        if any(self._stale(key) for key in keys):
            deadline = loop.time() + self._settings.stale_answer_s
        while pending:
            if have:
                deadline = min(
                    deadline, loop.time() + self._patience_s(tasks[task] for task in pending)
                )
            limit = None if deadline == float("inf") else max(0.0, deadline - loop.time())
            done, pending = await asyncio.wait(
                pending, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            have = any(isinstance(task.result().outcome, Found) for task in done)
        return {
            key: self._unfinished(key)
            if task in pending
            else self._judge(key, task.result(), Source.DNS)
            for task, key in tasks.items()
        }

    def _ensure_lookup(self, key: Key) -> asyncio.Task[Entry]:
        task = self._in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._run_lookup(key), name="dns-lookup")
            self._in_flight[key] = task
        return task

    async def _run_lookup(self, key: Key) -> Entry:
        try:
            return self._cache.store(key, await self._lookup.run(*key, self._servers.current()))
        finally:
            del self._in_flight[key]

    def _stale(self, key: Key) -> Found | None:
        return self._cache.stale(key) if self._settings.serve_stale else None

    def _judge(self, key: Key, entry: Entry, source: Source) -> _Result:
        if not isinstance(entry.outcome, Found) and (stale := self._stale(key)):
            self.counts.stale_served += 1
            return _Result(outcome=stale, source=source, state=State.STALE, expires=entry.expires)
        state = State.FRESH if isinstance(entry.outcome, Found) else State.FAILED
        return _Result(outcome=entry.outcome, source=source, state=state, expires=entry.expires)

    def _patience_s(self, keys: Iterable[Key]) -> float:
        """How long one family is waited for when the other has addresses."""
        if all(self._cache.is_failing(key) for key in keys):
            return RESOLUTION_DELAY_S
        return self._settings.other_family_s

    def _unfinished(self, key: Key) -> _Result:
        soon = self._clock() + FAILURE_MIN_S
        if stale := self._stale(key):
            self.counts.stale_served += 1
            return _Result(outcome=stale, source=Source.CACHE, state=State.STALE, expires=soon)
        failed = Failed(cause=ResolutionCause.TIMED_OUT, detail="its servers are still silent")
        return _Result(outcome=failed, source=Source.DNS, state=State.FAILED, expires=soon)

    def _combine(self, name: str, results: dict[int, _Result]) -> Resolution:
        found = [result for result in results.values() if isinstance(result.outcome, Found)]
        if not found:
            raise _error(name, [result.outcome for result in results.values()])
        useful = [result for result in results.values() if not isinstance(result.outcome, Absent)]
        stale = any(result.state is State.STALE for result in found)
        asked = any(result.source is Source.DNS for result in results.values())
        expires = min(result.expires for result in useful)
        return Resolution(
            name=name,
            addresses=tuple(
                address
                for result in found
                if isinstance(result.outcome, Found)
                for address in result.outcome.addresses
            ),
            ttl_s=max(0.0, expires - self._clock()),
            expires=expires,
            source=Source.DNS if asked else Source.CACHE,
            state=State.STALE if stale else State.FRESH,
            failed_families=tuple(
                family for family, result in results.items() if isinstance(result.outcome, Failed)
            ),
        )


def _error(name: str, outcomes: list[Outcome]) -> ResolutionError:
    """The worst of several: who cannot tell must not say no."""
    failures = {
        outcome.cause: outcome.detail for outcome in outcomes if isinstance(outcome, Failed)
    }
    refusals = {outcome.cause for outcome in outcomes if isinstance(outcome, Absent)}
    for cause in (ResolutionCause.TIMED_OUT, ResolutionCause.SERVER_FAILURE):
        if cause in failures:
            return ResolutionError(name, cause, failures[cause])
    if ResolutionCause.NAME_NOT_FOUND in refusals:
        return ResolutionError(
            name, ResolutionCause.NAME_NOT_FOUND, "the nameserver says that it does not exist"
        )
    return ResolutionError(
        name, ResolutionCause.NO_ADDRESS, "it exists, but has no address of the wanted family"
    )
