"""Named network namespaces: making them, running in them, and removing every trace of them.

All of it goes through iproute2's own programs: `ip netns exec` costs about 1 ms more than
entering a namespace by hand, and in return binds `/etc/netns/NAME/resolv.conf` and `hosts`.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress_router.lab.topology import Sysctls

NETNS = Path("/run/netns")
ETC_NETNS = Path("/etc/netns")
TOOLS = ("ip", "nft", "tcpdump", "setpriv")
COMMAND_LIMIT_S = 10.0  # one batch takes milliseconds; a machine under load takes some more
_PREFIX = re.compile(r"egr-[0-9]+-[0-9]+-\Z")

# Reads "PATH VALUE" lines: paths below /proc/sys/net belong to the namespace of whoever opens them.
_WRITE_SYSCTLS = 'while read -r name value; do echo "$value" > "/proc/sys/$name"; done'


def require_tools() -> None:
    """Raises KernelError, in one line, if this is not root or a program of the lab is missing."""
    if os.geteuid() != 0:
        raise KernelError("lab", "network namespaces need root", remedy="run it with sudo")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise KernelError(
            "lab",
            f"not found on this machine: {', '.join(missing)}",
            remedy="install iproute2, nftables, tcpdump and util-linux",
        )


def choose_prefix() -> str:
    """A prefix for namespace names that nobody holds, such as `egr-4711-1-`."""
    for number in range(1, 1000):
        prefix = f"egr-{os.getpid()}-{number}-"
        with contextlib.suppress(FileExistsError):
            log_folder(prefix).mkdir(mode=0o755)
            return prefix
    raise KernelError("lab", "a thousand labs are open already", remedy="remove some of them")


def log_folder(prefix: str) -> Path:
    """Where the output of a lab's processes is kept; making it is what claims the prefix."""
    return Path(tempfile.gettempdir()) / f"{prefix}logs"


def create_namespaces(names: Iterable[str]) -> None:
    """Makes them all, or raises KernelError."""
    _ip(("ip", "-batch", "-"), "".join(f"netns add {name}\n" for name in names))


def adopt_namespace(name: str, pid: int) -> None:
    """Gives the network namespace that a process lives in a name, or raises KernelError."""
    _ip(("ip", "netns", "attach", name, str(pid)), "")


def apply_batch(namespace: str, lines: Sequence[str]) -> None:
    """Feeds iproute2 batch lines to a namespace; KernelError quotes the line that was refused."""
    _ip(("ip", "-n", namespace, "-batch", "-"), "".join(f"{line}\n" for line in lines), lines)


def apply_sysctls(namespace: str, sysctls: Sysctls) -> None:
    """Sets `net.` sysctls inside a namespace."""
    if not sysctls:
        return
    text = "".join(f"{name.replace('.', '/')} {value}\n" for name, value in sysctls)
    _ip(inside(namespace, ("sh", "-ec", _WRITE_SYSCTLS)), text)


def inside(namespace: str, argv: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs `argv` in a namespace, as the same process."""
    return ("ip", "netns", "exec", namespace, *argv)


def write_etc(namespace: str, files: dict[str, str]) -> None:
    """Gives a namespace its own files under `/etc`, for every later `inside`."""
    folder = ETC_NETNS / namespace
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if Path("/etc", name).exists():  # what is not there cannot be bound over
            (folder / name).write_text(text)


def remove_world(prefix: str) -> tuple[str, ...]:
    """Ends what runs in a lab's namespaces, removes them and their files; names what it removed.

    Only names that a lab itself could have chosen are touched: another prefix is a ValueError.
    """
    if not _PREFIX.match(prefix):
        raise ValueError(f"'{prefix}' is no lab prefix; expected one like egr-4711-1-")
    names = tuple(sorted(path.name for path in NETNS.glob(f"{prefix}*")))
    end_processes(pid for name in names for pid in observe_pids(name))
    if names:
        _ip(("ip", "-force", "-batch", "-"), "".join(f"netns del {name}\n" for name in names))
    for folder in (*ETC_NETNS.glob(f"{prefix}*"), log_folder(prefix)):
        shutil.rmtree(folder, ignore_errors=True)
    return names


def observe_pids(namespace: str) -> tuple[int, ...]:
    """The processes that live in a namespace."""
    listed = subprocess.run(
        ("ip", "netns", "pids", namespace), capture_output=True, text=True, check=False
    )
    return tuple(map(int, listed.stdout.split()))


def end_processes(pids: Iterable[int]) -> None:
    """Kills processes by id and returns when they are gone, or after COMMAND_LIMIT_S each."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], COMMAND_LIMIT_S)
            finally:
                os.close(handle)


def _ip(argv: Sequence[str], text: str, lines: Sequence[str] = ()) -> None:
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT_S
    )
    if done.returncode == 0:
        return
    complaint = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
    failed = re.search(r"Command failed -:([0-9]+)", done.stderr)
    at = f" at '{lines[int(failed[1]) - 1]}'" if failed and lines else ""
    raise KernelError(f"lab: {' '.join(argv[:5])}{at}", complaint)
