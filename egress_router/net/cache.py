"""What lookups ended with, for as long as it may be used again.

1. A TTL is at least 5 s here (and at most a day, see answers.py). TTL 0 serves only those who were
   waiting for the answer.
2. A no is kept by the SOA minimum, at most 60 s (RFC 2308); a failure 1 to 5 s (RFC 9520).
3. The last good addresses outlive their TTL (RFC 8767): a day while servers fail or keep silent,
   30 s after an authoritative no. Whether they are used is the resolver's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.net.resolution import Absent, Failed, Found, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from egress_router.net.resolution import Outcome
    from egress_router.net.scan import Labels, RecordType

    Key: TypeAlias = tuple[Labels, RecordType]

TTL_MIN_S: Final = 5
NEGATIVE_MIN_S: Final = 1
NEGATIVE_MAX_S: Final = 60
# A no without SOA must not be kept, yet a crowd must not ask again at once.
NEGATIVE_UNKNOWN_S: Final = 5
FAILURE_MIN_S: Final = 1
FAILURE_MAX_S: Final = 5
STALE_AFTER_FAILURE_S: Final = 86_400
STALE_AFTER_NO_S: Final = 30
ENTRIES_MAX: Final = 10_000  # about 10 MB; clients of a proxy choose the names


@dataclass(slots=True, kw_only=True)
class Entry:
    """One name and type: the last outcome, and the last good one with the moment it went stale."""

    outcome: Outcome
    expires: float
    good: Found | None = None
    good_until: float = 0.0
    refused_since: float | None = None
    failures: int = 0


class Cache:
    """Outcomes by name and type; beyond its size the entry stored longest ago goes."""

    def __init__(self, clock: Callable[[], float], *, entries_max: int = ENTRIES_MAX) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._entries: dict[Key, Entry] = {}

    def fresh(self, key: Key) -> Entry | None:
        """The entry, if its last outcome may still be used; it may be a no or a failure."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry.expires else None

    def stale(self, key: Key) -> Found | None:
        """The last good addresses, if rule 3 still lets them be used."""
        entry = self._entries.get(key)
        return None if entry is None else self._stale(entry)

    def is_failing(self, key: Key) -> bool:
        """Whether the last lookup failed, however long ago."""
        entry = self._entries.get(key)
        return entry is not None and isinstance(entry.outcome, Failed)

    def store(self, key: Key, outcome: Outcome) -> Entry:
        """Notes how a lookup ended."""
        entry = self._entries.pop(key, None) or Entry(outcome=outcome, expires=0.0)
        now = self._clock()
        entry.outcome = outcome
        match outcome:
            case Found(ttl_s=ttl_s):
                kept_s = max(ttl_s, TTL_MIN_S) if ttl_s else 0
                entry.good, entry.good_until = outcome, now + kept_s
                entry.refused_since, entry.failures = None, 0
            case Absent(ttl_s=ttl_s):
                wanted_s = NEGATIVE_UNKNOWN_S if ttl_s is None else ttl_s
                kept_s = min(max(wanted_s, NEGATIVE_MIN_S), NEGATIVE_MAX_S)
                entry.failures = 0
                if entry.refused_since is None:
                    entry.refused_since = now
            case Failed():
                kept_s = min(FAILURE_MIN_S << entry.failures, FAILURE_MAX_S)
                entry.failures = min(entry.failures + 1, FAILURE_MAX_S)
        entry.expires = now + kept_s
        self._entries[key] = entry
        if len(self._entries) > self._entries_max:
            del self._entries[next(iter(self._entries))]
        return entry

    def states(self) -> Iterator[tuple[Key, State, Entry, float]]:
        """Every entry with its state, and the seconds since its addresses went stale (or 0)."""
        now = self._clock()
        for key, entry in self._entries.items():
            if isinstance(entry.outcome, Found) and now < entry.expires:
                yield key, State.FRESH, entry, 0.0
            else:
                state = State.FAILED if self._stale(entry) is None else State.STALE
                yield key, state, entry, max(0.0, now - entry.good_until) if entry.good else 0.0

    def _stale(self, entry: Entry) -> Found | None:
        now = self._clock()
        if entry.good is None or now >= entry.good_until + STALE_AFTER_FAILURE_S:
            return None
        if entry.refused_since is not None and now >= entry.refused_since + STALE_AFTER_NO_S:
            return None
        return entry.good
