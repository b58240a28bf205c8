"""The table of log events."""

from __future__ import annotations

import re

from egress_router.service.events import EVENTS, RANKS, RESERVED


def test_names_are_unique_and_plain() -> None:
    """Each event has a name of its own, in words joined by underscores."""
    names = [event.name for event in EVENTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)


def test_every_event_says_what_it_means() -> None:
    """Each event has a known level, a meaning, and fields that do not hide the line's own."""
    for event in EVENTS:
        assert event.level in RANKS
        assert event.meaning
        assert len(set(event.fields)) == len(event.fields)
        assert not RESERVED & set(event.fields)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", field) for field in event.fields)
