"""What the operating system tells of processes, and of the machine itself."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROCESSORS = len(os.sched_getaffinity(0))
KIB = 1024
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")
_ASKED = {
    "nft": ("nft", "--version"),
    "haproxy": ("haproxy", "-v"),
    "squid": ("squid", "-v"),
    "tinyproxy": ("tinyproxy", "-v"),
}


def observe_tree(root: int) -> tuple[int, ...]:
    """A process and all that descend from it: proxies have children, ours has workers."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    tree, new = [root], [root]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        tree += new
    return tuple(tree)


def observe_cpu_s(root: int) -> float:
    """Processor seconds of a tree so far, those of children that have ended included."""
    ticks = 0
    for pid in observe_tree(root):
        if fields := _stat(pid):
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def observe_idle_s() -> float:
    """Seconds for which processors had nothing to do so far, of all of them together (proc(5))."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        fields = file.readline().split()
    return (int(fields[4]) + int(fields[5])) / TICKS  # idle, and idle while a disk is waited for


def observe_memory_bytes(root: int) -> int:
    """Resident memory of a tree: private pages of each, and shared ones once.

    For a single process that is its resident set. Where several share pages, the largest share of
    one of them stands for all.
    """
    private, shared = 0, 0
    for pid in observe_tree(root):
        parts = {"Private": 0, "Shared": 0}
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        for line in text.splitlines():
            kind, _, rest = line.partition("_")
            if kind in parts and not rest.startswith("Hugetlb"):
                parts[kind] += int(rest.split()[1]) * KIB
        private += parts["Private"]
        shared = max(shared, parts["Shared"])
    return private + shared


def observe_machine() -> dict[str, str]:
    """What a reader of the figures wants to know of where they come from."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    facts = {
        "processors": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "Linux": ".".join(platform.release().split(".")[:2]),
        "Python": platform.python_version(),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }
    for name, argv in _ASKED.items():
        try:
            said = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        found = _VERSION.search(said.stdout + said.stderr)
        facts[name] = found[0] if found else "?"
    return facts


def _stat(pid: int) -> list[str] | None:
    """The fields of stat(5) from the third on: state, parent, ...; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
