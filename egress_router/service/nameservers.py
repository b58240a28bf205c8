"""The nameservers as /status tells of them, for the modes that look names up."""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from egress_router.service import metrics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from egress_router.net.resolver import Resolver
    from egress_router.net.servers import ServerState
    from egress_router.service.daemon import Service
    from egress_router.service.series import Series

Row: TypeAlias = "dict[str, Any]"

_STATES = {True: "answers", False: "silent", None: "not asked yet"}
_BAD_FIRST = (_STATES[False], _STATES[True], _STATES[None])


def nameserver_rows(states: Iterable[ServerState]) -> list[Row]:
    """One row for each nameserver."""
    return [
        {"nameserver": str(one.server.address), "state": _STATES[one.answered]} for one in states
    ]


def merge_nameservers(tables: Iterable[Iterable[Row]]) -> list[Row]:
    """The rows of several processes, each asking for itself: the worst of what they found."""
    merged: dict[str, Row] = {}
    for row in chain.from_iterable(tables):
        known = merged.get(row["nameserver"])
        if known is None or _BAD_FIRST.index(row["state"]) < _BAD_FIRST.index(known["state"]):
            merged[row["nameserver"]] = row
    return list(merged.values())


def nameserver_warnings(rows: Collection[Row]) -> tuple[str, ...]:
    """What is wrong with them, if anything is."""
    if not rows:
        return ("DNS: /etc/resolv.conf names no nameserver",)
    silent = [row["nameserver"] for row in rows if row["state"] == _STATES[False]]
    if not silent:
        return ()
    none_is_left = len(silent) == len(rows)
    who = "no nameserver answers" if none_is_left else "a nameserver does not answer"
    return (f"DNS: {who}: {', '.join(silent)}",)


class ResolverReport:
    """Tells of a resolver and its nameservers, as far as all of the daemon's processes know."""

    def __init__(self, service: Service, resolver: Resolver) -> None:
        self._resolver = resolver
        self._merged: list[Row] | None = None
        service.metrics.provide(metrics.DNS_QUERIES, self._queries)
        service.provide_status(self._facts, merge=self._merge)
        service.provide_warnings(self._warnings)

    def _queries(self) -> Series:
        counts = dataclasses.asdict(self._resolver.counts)
        return {(outcome,): count for outcome, count in counts.items()}

    def _facts(self) -> dict[str, list[Row]]:
        return {"nameservers": nameserver_rows(self._resolver.nameservers())}

    def _merge(
        self, own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        self._merged = merge_nameservers(one["nameservers"] for one in (own, *others))
        return {"nameservers": self._merged}

    def _warnings(self) -> tuple[str, ...]:
        rows = self._facts()["nameservers"] if self._merged is None else self._merged
        return nameserver_warnings(rows)
