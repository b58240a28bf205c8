"""How full the kernel's table of tracked connections is, and what it could not take.

Every packet of the pod passes it, in all modes: a full table loses new connections. Its use is
counted for this namespace; the limit is the node's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from egress_router.kernel.host import observe_flow_count

_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_STATISTICS = Path("/proc/net/stat/nf_conntrack")
_HEXADECIMAL = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Entries now and at most; packets lost because it was full, or an entry could not be made.

    None: the kernel does not tell.
    """

    entries: int | None = None
    limit: int | None = None
    full: int | None = None
    failed: int | None = None


def observe_tracking() -> Tracking:
    """The table's use; readable without privilege."""
    try:
        limit = int(_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        limit = None
    try:
        full, failed = parse_statistics(_STATISTICS.read_text(encoding="ascii"))
    except (OSError, ValueError, IndexError):
        full, failed = None, None
    return Tracking(entries=observe_flow_count(), limit=limit, full=full, failed=failed)


def parse_statistics(text: str) -> tuple[int, int]:
    """`drop` and `insert_failed`, each the sum over all processors.

    One line of names, then one of hexadecimal numbers for each processor. Raises ValueError or
    IndexError where it is of another form.
    """
    names, *processors = (line.split() for line in text.splitlines() if line.strip())
    full, failed = names.index("drop"), names.index("insert_failed")
    return (
        sum(int(numbers[full], _HEXADECIMAL) for numbers in processors),
        sum(int(numbers[failed], _HEXADECIMAL) for numbers in processors),
    )
