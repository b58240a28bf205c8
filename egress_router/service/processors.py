"""How many processes a daemon is to be, by the processors that its container may use.

1. A process uses one processor at most; more processes than processors only cost memory.
2. A CPU limit is a quota of the cgroup, and of every cgroup above it: the smallest one holds. What
   cannot be read is no quota.
3. In a container the path that /proc/self/cgroup tells may not exist: the cgroup itself is then
   mounted where the root would be.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Each process holds its own memory, and beyond four the network is what a pod runs out of first.
AUTO_MAX = 4
_ROOT = Path("/sys/fs/cgroup")
_GROUPS = Path("/proc/self/cgroup")
_UNIFIED = ""  # the controllers' field of version 2 in /proc/self/cgroup, cgroups(7)
_CPU = "cpu"
_MOUNTS_V1 = ("cpu,cpuacct", "cpu", "cpuacct,cpu")
_MOUNTS_V2 = ("", "unified")  # the latter beside version 1


def decide_workers(wanted: int | None, *, processors: int, quota: float | None) -> int:
    """How many processes to be; `wanted` None: by the facts. `quota`: processors, such as 1.5."""
    if wanted is not None:
        return wanted
    allowed = processors if quota is None else min(processors, math.ceil(quota))
    return max(1, min(allowed, AUTO_MAX))


def parse_max(text: str) -> float | None:
    """The processors that version 2's cpu.max allows, `150000 100000`; None: no limit."""
    quota, _, period = text.strip().partition(" ")
    return parse_quota(quota, period)


def parse_quota(quota: str, period: str) -> float | None:
    """The processors that version 1's cfs_quota_us and cfs_period_us allow; -1 is no limit."""
    try:
        quota_us, period_us = int(quota), int(period)
    except ValueError:
        return None  # `max`, or nothing that a kernel writes
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def parse_groups(text: str) -> dict[str, str]:
    """The cgroup's path by controller, from lines such as `4:cpu,cpuacct:/kubepods/x`."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            groups |= dict.fromkeys(fields[1].split(","), fields[2])
    return groups


def observe_processors() -> int:
    """On how many processors this process may run."""
    return len(os.sched_getaffinity(0))


def observe_quota(root: Path = _ROOT, groups: Path = _GROUPS) -> float | None:
    """The processors that the cgroups of this process allow; None: no limit."""
    paths = parse_groups(_read(groups))
    found = [
        parse_max(_read(folder / "cpu.max"))
        for folder in _folders(root, _MOUNTS_V2, paths, _UNIFIED)
    ]
    found += [
        parse_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
        for folder in _folders(root, _MOUNTS_V1, paths, _CPU)
    ]
    return min((quota for quota in found if quota is not None), default=None)


def _folders(
    root: Path, mounts: tuple[str, ...], paths: Mapping[str, str], controller: str
) -> Iterator[Path]:
    """The folders of the cgroup and of those above it, wherever they may be mounted."""
    inside = PurePosixPath(paths.get(controller, "/").lstrip("/"))
    if ".." in inside.parts:  # the cgroup is outside the namespace's root; rule 3
        inside = PurePosixPath()
    for mount in mounts:
        for part in (inside, *inside.parents):
            yield root / mount / part


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
