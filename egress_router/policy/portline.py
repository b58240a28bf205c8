"""Which line comes first for a port, among all lines that name the same destination.

A destination may stand on many lines with different ports (`h:80`, `h:443`, `h:8000-8999`, `h`).
They are folded into segments of ports, each with its lowest line index, so that a lookup is one
binary search however many lines there were.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT_LAST: Final = 65535
NO_LINE: Final = (
    1 << 62
)  # larger than any index, so that min() over candidates needs no special case

Entry: TypeAlias = tuple[int, tuple[int, int] | None]  # index of the rule, its ports


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLines:
    """`lines[i]` is the first rule for ports from `starts[i]` up to the next start."""

    starts: tuple[int, ...]
    lines: tuple[int, ...]

    def first(self, port: int) -> int:
        """Index of the first rule that takes this port, or NO_LINE."""
        return self.lines[bisect_right(self.starts, port) - 1]


def build_port_lines(entries: Sequence[Entry]) -> PortLines:
    """Folds the entries of one destination; n entries cost n log n."""
    every_port = min((index for index, ports in entries if ports is None), default=NO_LINE)
    spans = sorted((*ports, index) for index, ports in entries if ports is not None)
    if not spans:
        return PortLines(starts=(0,), lines=(every_port,))
    edges = sorted({0, *(first for first, _, _ in spans), *(last + 1 for _, last, _ in spans)})
    starts: list[int] = []
    lines: list[int] = []
    open_spans = [(every_port, PORT_LAST + 1)]  # heap of (index, last port); this one never ends
    taken = 0
    for edge in edges:
        while taken < len(spans) and spans[taken][0] <= edge:
            _, last, index = spans[taken]
            heappush(open_spans, (index, last))
            taken += 1
        while open_spans[0][1] < edge:
            heappop(open_spans)
        line = open_spans[0][0]
        if not lines or lines[-1] != line:
            starts.append(edge)
            lines.append(line)
    return PortLines(starts=tuple(starts), lines=tuple(lines))
