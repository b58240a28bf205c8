"""What is different between two lists, in words for the log and for status.

Where every line has a key of its own (a port), lines are compared by it. Where the order decides,
they are compared as a sequence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SAME_RULES = "comments or line numbers alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line with a key: `what` (`tcp port 80`) leads to `target` (`203.0.113.25 port 80`)."""

    what: str
    target: str
    line: int


def describe_entries(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[str, ...]:
    """`tcp port 80 added, to 203.0.113.25 port 80 (line 3)` and such; empty if nothing differs."""
    return tuple(_entry_changes({e.what: e for e in old}, {e.what: e for e in new}))


def describe_lines(
    old: Sequence[tuple[int, str]], new: Sequence[tuple[int, str]]
) -> tuple[str, ...]:
    """`'*.example.com' added (line 3)`, and so on; each is the number of a line and its text."""
    left, come = Counter(text for _, text in old), Counter(text for _, text in new)
    removed, added = left - come, come - left
    words = [f"'{text}' removed" for text in _pick(old, removed)]
    words += [f"'{text}' added (line {line})" for line, text in _pick_lines(new, added)]
    if _kept(old, left - removed) != _kept(new, come - added):
        words.append("the order of lines changed")
    return tuple(words)


def _entry_changes(old: dict[str, Entry], new: dict[str, Entry]) -> Iterator[str]:
    for what, entry in old.items():
        if what not in new:
            yield f"{what} removed, was to {entry.target}"
    for what, entry in new.items():
        before = old.get(what)
        if before is None:
            yield f"{what} added, to {entry.target} (line {entry.line})"
        elif before.target != entry.target:
            yield f"{what} changed, to {entry.target} (line {entry.line}), was to {before.target}"


def _pick(lines: Sequence[tuple[int, str]], wanted: Counter[str]) -> Iterator[str]:
    return (text for _, text in _pick_lines(lines, wanted))


def _pick_lines(
    lines: Sequence[tuple[int, str]], wanted: Counter[str]
) -> Iterator[tuple[int, str]]:
    """As many lines of each text as are wanted."""
    left = Counter(wanted)
    for line, text in lines:
        if left[text]:
            left[text] -= 1
            yield line, text


def _kept(lines: Sequence[tuple[int, str]], kept: Counter[str]) -> list[str]:
    return list(_pick(lines, kept))
