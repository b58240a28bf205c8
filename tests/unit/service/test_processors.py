"""How many processes a daemon is, by affinity and CPU limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress_router.service.processors import (
    decide_workers,
    observe_processors,
    observe_quota,
    parse_groups,
    parse_max,
    parse_quota,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("wanted", "processors", "quota", "count"),
    [
        (None, 1, None, 1),
        (None, 2, None, 2),
        (None, 64, None, 4),
        (None, 64, 0.1, 1),
        (None, 64, 1.0, 1),
        (None, 64, 1.5, 2),
        (None, 64, 2.0, 2),
        (None, 64, 3.2, 4),
        (None, 64, 30.0, 4),
        (None, 2, 30.0, 2),
        (None, 0, None, 1),
        (1, 64, None, 1),
        (64, 1, 0.5, 64),
    ],
)
def test_a_count_follows_from_the_facts(
    wanted: int | None, processors: int, quota: float | None, count: int
) -> None:
    """A wish holds; else as many as can run at once, rounded up, and four at most."""
    assert decide_workers(wanted, processors=processors, quota=quota) == count


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1.0),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("10000 5000\n", 2.0),
        ("1000 1000000\n", 0.001),
        ("", None),
        ("0 100000", None),
        ("100000", None),
        ("100000 0", None),
        ("many 100000", None),
    ],
)
def test_quota_of_version_2(text: str, quota: float | None) -> None:
    """cpu.max: quota and period in microseconds; `max`, and what no kernel writes, is no limit."""
    assert parse_max(text) == quota


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("-1\n", "100000\n", None),
        ("200000\n", "100000\n", 2.0),
        ("25000\n", "100000\n", 0.25),
        ("", "100000", None),
        ("200000", "", None),
    ],
)
def test_quota_of_version_1(quota: str, period: str, expected: float | None) -> None:
    """cfs_quota_us and cfs_period_us; -1 is no limit, and so is a file that is not there."""
    assert parse_quota(quota, period) == expected


def test_groups_by_controller() -> None:
    """Several controllers share a line of version 1; version 2 has none; a path may hold colons."""
    text = "12:memory:/a\n4:cpu,cpuacct:/kubepods/x:y\n0::/init.scope\njunk\n"
    assert parse_groups(text) == {
        "memory": "/a",
        "cpu": "/kubepods/x:y",
        "cpuacct": "/kubepods/x:y",
        "": "/init.scope",
    }


V2, V1 = "cpu.max", "cfs"
POD, BOX = "kubepods.slice/pod1", "kubepods.slice/pod1/box"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        # A container's own namespace: its cgroup is the root.
        ("0::/\n", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {}, None),
        # The host's namespace: the limit of the pod holds for the container too.
        (f"0::/{BOX}\n", {f"{POD}/cpu.max": "100000 100000"}, 1.0),
        (
            f"0::/{BOX}\n",
            {f"{BOX}/cpu.max": "300000 100000", f"{POD}/cpu.max": "150000 100000"},
            1.5,
        ),
        # The path is that of the host, and the cgroup is mounted where the root would be.
        (f"0::/{BOX}\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../../other\n", {"cpu.max": "50000 100000"}, 0.5),
        # Version 1, in both names of the mount.
        (
            f"4:cpu,cpuacct:/{BOX}\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (
            f"4:cpu:/{BOX}\n",
            {f"cpu/{BOX}/cpu.cfs_quota_us": "-1", f"cpu/{BOX}/cpu.cfs_period_us": "100000"},
            None,
        ),
        # Both at once: version 2 without the controller.
        (
            f"4:cpu,cpuacct:/{BOX}\n0::/\n",
            {
                f"cpu,cpuacct/{BOX}/cpu.cfs_quota_us": "100000",
                f"cpu,cpuacct/{BOX}/cpu.cfs_period_us": "100000",
            },
            1.0,
        ),
        ("", {}, None),
        (None, {"cpu.max": "100000 100000"}, 1.0),
    ],
)
def test_the_smallest_quota_on_the_way_up_holds(
    tmp_path: Path, groups: str | None, files: dict[str, str], quota: float | None
) -> None:
    """Wherever the cgroup is mounted; what cannot be read is no quota."""
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    told = tmp_path / "cgroup"
    if groups is not None:
        told.write_text(groups)
    assert observe_quota(tmp_path / "fs", told) == quota


def test_the_machine_itself_can_be_read() -> None:
    """There is a processor at least, and a quota is none or more than nothing."""
    assert observe_processors() >= 1
    quota = observe_quota()
    assert quota is None or quota > 0
