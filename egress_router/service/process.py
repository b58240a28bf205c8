"""Facts about the own process, read from the kernel when somebody asks."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

DESCRIPTORS_MAX = 1 << 20  # the usual fs.nr_open, and more than any pod carries
_START_TICKS = 19  # of /proc/self/stat behind the command: field 22, starttime (proc_pid_stat(5))


def observe_age_s() -> float:
    """Seconds since the process was started, interpreter and imports included."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    ticks = int(stat[stat.rindex(")") + 2 :].split()[_START_TICKS])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def observe_cpu_s() -> float:
    """Processor time used so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def observe_memory_bytes() -> float:
    """Resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def observe_shared_memory_bytes() -> float:
    """Resident memory, where each page counts by the part that this process has in it.

    The sum over the processes of a daemon is what the daemon takes (proc_pid_smaps_rollup(5)).
    """
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return observe_memory_bytes()
    found = [line for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(found[0].split()[1]) * 1024 if found else observe_memory_bytes()


def observe_descriptors() -> float:
    """File descriptors in use."""
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - counts; less the listing itself


def observe_descriptor_limit() -> float:
    """File descriptors the process may use."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> int:
    """Raises the soft limit of descriptors to the hard one, and returns it.

    The soft one is low for programs that use select(2); ours do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
