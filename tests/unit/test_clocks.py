"""No wall clock decides anything, so a clock that jumps by a day changes nothing (faults 106)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import egress_router

ROOT = Path(egress_router.__file__).parent
# Every way to ask what time of day it is, in what the package may import.
WALL = frozenset(
    {
        "time.time",
        "time.time_ns",
        "time.localtime",
        "time.ctime",
        "time.strftime",
        "time.gmtime",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "time.clock_gettime",
    }
)
# Where it is asked all the same: to tell people, never to decide.
TOLD = {
    "modes/http/refusals.py": "when a request was refused, in /status",
    "service/daemon.py": "when the daemon started, in /status and a metric",
    "service/log_lines.py": "how a time is written",
    "service/logs.py": "the timestamp of a line",
    "service/process.py": "CLOCK_BOOTTIME, which nobody sets, for the age of the process",
    "service/reload_report.py": "when the last reload was, in /status and a metric",
}
ELSEWHERE = frozenset({"lab"})  # plays other machines


def wall_clocks(source: str) -> set[str]:
    """The calls of a module that ask for the time of day."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            base = node.value
            name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            if f"{name}.{node.attr}" in WALL:
                found.add(f"{name}.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module in {"time", "datetime"}:
            found |= {f"{node.module}.{a.name}" for a in node.names} & WALL
    return found


MODULES = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in ELSEWHERE
)


@pytest.mark.parametrize("module", MODULES)
def test_time_of_day_is_told_and_never_decides(module: str) -> None:
    """Each module that asks for it is in the table above, with what it is for."""
    found = wall_clocks((ROOT / module).read_text(encoding="utf-8"))
    assert bool(found) is (module in TOLD), f"{module}: {found}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\ntime.time()", {"time.time"}),
        ("from time import time", {"time.time"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.now"}),
        ("import time\ntime.monotonic()", set()),
    ],
)
def test_the_search_finds_them(source: str, found: set[str]) -> None:
    """Every spelling counts."""
    assert wall_clocks(source) == found
