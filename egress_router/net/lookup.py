"""One lookup: which server is asked how and when, until there is an outcome or time is up.

1. First every server in turn, over UDP; each has 0.8 s, so a dead one costs less than a second.
2. Then those that kept silent over TCP, since some are reached by TCP alone; then all over again.
3. SERVFAIL, REFUSED, NOTIMP and anything malformed: the next server, and this one no more.
4. FORMERR and BADVERS to EDNS: the same server without it. TC: the same server over TCP.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from egress_router.net.answers import decide_outcome
from egress_router.net.resolution import Failed, ResolutionCause
from egress_router.net.scan import MalformedAnswerError
from egress_router.net.servers import ResolverCounts, Standings, ask_tcp, ask_udp
from egress_router.net.wire import Query, Rcode

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.resolution import Outcome
    from egress_router.net.resolv_conf import Nameserver
    from egress_router.net.scan import Labels, RecordType
    from egress_router.net.servers import ServerState
    from egress_router.net.wire import Answer

TRY_S = 0.8
LOOKUP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupLimits:
    """`try_s` is for one server and transport, `lookup_s` for the whole lookup."""

    try_s: float = TRY_S
    lookup_s: float = LOOKUP_S


class _Verdict(Enum):
    SILENT = auto()
    USELESS = auto()


_Result: TypeAlias = "Outcome | _Verdict"


class Lookup:
    """Asks nameservers; keeps what it learns about them, but no answers."""

    def __init__(
        self,
        limits: LookupLimits,
        *,
        clock: Callable[[], float],
        random_id: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._random_id = random_id
        self._standings = Standings(clock)
        self.counts = ResolverCounts()

    def states(self, servers: tuple[Nameserver, ...]) -> tuple[ServerState, ...]:
        """How each of these nameservers was met the last time."""
        return self._standings.states(servers)

    async def run(
        self, name: Labels, rtype: RecordType, servers: tuple[Nameserver, ...]
    ) -> Outcome:
        """How the lookup ended; never raises but for cancellation."""
        if not servers:
            return Failed(cause=ResolutionCause.SERVER_FAILURE, detail="no nameserver is known")
        try:
            async with asyncio.timeout(self._limits.lookup_s):
                return await self._ask_all(name, rtype, servers)
        except TimeoutError:
            return Failed(cause=ResolutionCause.TIMED_OUT, detail=f"asked {_list(servers)}")

    async def _ask_all(
        self, name: Labels, rtype: RecordType, servers: tuple[Nameserver, ...]
    ) -> Outcome:
        left = self._standings.order(servers)
        over_tcp = False
        while left:
            silent = []
            for server in left:
                tcp = over_tcp or self._standings.prefers_tcp(server)
                result = await self._ask_one(name, rtype, server, tcp=tcp)
                if not isinstance(result, _Verdict):
                    if over_tcp:
                        self._standings.note_tcp_only(server)
                    return result
                if result is _Verdict.SILENT:
                    silent.append(server)
            left, over_tcp = tuple(silent), not over_tcp
        return Failed(
            cause=ResolutionCause.SERVER_FAILURE, detail=f"no usable answer from {_list(servers)}"
        )

    async def _ask_one(
        self, name: Labels, rtype: RecordType, server: Nameserver, *, tcp: bool
    ) -> _Result:
        try:
            async with asyncio.timeout(self._limits.try_s):
                result = await self._converse(name, rtype, server, tcp=tcp)
        except TimeoutError:
            self.counts.timeouts += 1
            self._standings.note_silent(server)
            return _Verdict.SILENT
        except OSError:
            # Nobody listens there: over UDP that leaves TCP to try, over TCP nothing.
            self._standings.note_silent(server)
            return _Verdict.USELESS if tcp else _Verdict.SILENT
        except MalformedAnswerError:
            self.counts.malformed += 1
            return _Verdict.USELESS
        self._standings.note_answered(server)
        return result

    async def _converse(
        self, name: Labels, rtype: RecordType, server: Nameserver, *, tcp: bool
    ) -> _Result:
        while True:
            edns = self._standings.knows_edns(server)
            query = Query(id=self._random_id(), name=name, type=rtype, edns=edns)
            answer = await self._ask(server, query, tcp=tcp)
            if answer.truncated and not tcp:
                answer = await self._ask(server, query, tcp=True)
            if answer.truncated:
                return _Verdict.USELESS
            if answer.rcode in (Rcode.FORMERR, Rcode.BADVERS) and edns:
                self._standings.note_plain(server)
                continue
            outcome = decide_outcome(answer, query)
            return _Verdict.USELESS if outcome is None else outcome

    async def _ask(self, server: Nameserver, query: Query, *, tcp: bool) -> Answer:
        self.counts.queries += 1
        if not tcp:
            return await ask_udp(server, query, self.counts)
        self.counts.tcp += 1
        return await ask_tcp(server, query, self.counts)


def _list(servers: tuple[Nameserver, ...]) -> str:
    return ", ".join(f"{server.address} port {server.port}" for server in servers)
