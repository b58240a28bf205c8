"""podman with a storage of its own, on machines that were not made for it.

1. Everything it writes lies under one folder, which goes with the engine.
2. Its commands share one private mount namespace, so no mount outlives it either. There the v2
   tree of a hybrid cgroup set-up is taken away, for crun refuses one that has controllers.
3. RLIMIT_NPROC is asked for as the number of pids there are: podman lowers its own to that first,
   and then crun may not raise it again without CAP_SYS_RESOURCE.
4. podman 4 applies a pod's restartPolicy to its init containers, also to those that succeeded;
   Kubernetes does not. A restart is the work of a command that conmon runs when a container has
   ended, so for the names in `once` a wrapper takes that command away.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND_S = 60.0  # one command takes half a second; a busy machine takes some more
_HOLD = """
umount /sys/fs/cgroup/unified 2>/dev/null
echo ready
exec sleep infinity
"""
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["{folder}/conmon"]
events_logger = "none"
lock_type = "file"
tmp_dir = "{folder}/tmp"
"""
_CONMON = """\
#!/bin/sh
for word; do
  [ "$before" = -n ] && name=$word
  before=$word
done
grep -qxF -- "$name" {folder}/once || exec {conmon} "$@"
count=$#
while [ "$count" -gt 0 ]; do
  case $1 in
    --exit-command | --exit-command-arg) shift; count=$((count - 1)) ;;
    *) set -- "$@" "$1" ;;
  esac
  shift; count=$((count - 1))
done
exec {conmon} "$@"
"""
_STORAGE_CONF = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
# Images come from our own builds; a name that was not built must not be looked up anywhere.
_REGISTRIES_CONF = """\
unqualified-search-registries = []
[[registry]]
prefix = "quay.io/egress-router"
location = "quay.io/egress-router"
blocked = true
"""


class Engine:
    """A context manager; with `keep` the images outlive it."""

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self.folder = folder
        self._keep = keep
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_settings()
        self._holder = subprocess.Popen(
            ("unshare", "--mount", "--propagation", "slave", "sh", "-c", _HOLD),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder is not None
        self.run("pod", "rm", "--all", "--force", "--time", "0", check=False)
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        self._holder.kill()
        self._holder.communicate()
        if not self._keep:
            shutil.rmtree(self.folder)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = COMMAND_S,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `podman ARGV`; with `check` a failure is an error that shows the output."""
        done = subprocess.run(
            self.command(argv),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env={**os.environ, **self.environment, **(env or {})},
        )
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
            error.add_note(f"{done.stdout}{done.stderr}")
            raise error
        return done

    def never_restart(self, container: str) -> None:
        """Has a container run once, whatever its pod's restartPolicy."""
        with (self.folder / "once").open("a", encoding="utf-8") as names:
            names.write(f"{container}\n")

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """The facts that `podman KIND inspect` tells."""
        found = json.loads(self.run(kind, "inspect", name).stdout)
        return dict(found[0] if isinstance(found, list) else found)

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The whole command line of one podman command."""
        assert self._holder is not None
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "podman", *argv)

    @property
    def environment(self) -> dict[str, str]:
        """What points podman to the settings of this engine."""
        return {
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self.folder}/registries.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
        }

    def _write_settings(self) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        processes = Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii").strip()
        settings = {
            "containers.conf": _CONTAINERS_CONF.format(
                files=files,
                processes=processes,
                folder=self.folder,
            ),
            "conmon": _CONMON.format(folder=self.folder, conmon=_find_conmon()),
            "once": "",
            "registries.conf": _REGISTRIES_CONF,
            "storage.conf": _STORAGE_CONF.format(
                driver=_choose_driver(self.folder), folder=self.folder
            ),
        }
        for name, text in settings.items():
            (self.folder / name).write_text(text)
        (self.folder / "conmon").chmod(0o755)


def _find_conmon() -> str:
    # Debian has it in the path, others hide it.
    found = shutil.which("conmon", path=f"{os.environ['PATH']}:/usr/libexec/podman:/usr/lib/podman")
    assert found, "conmon comes with podman, and is not there"
    return found


def _choose_driver(folder: Path) -> str:
    """`overlay` where the folder's file system can carry one, else copies: slow, but everywhere."""
    probe = folder / "probe"
    parts = [probe / name for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir(parents=True)
    options = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    mount = ("unshare", "--mount", "mount", "-t", "overlay", "none", "-o", options, str(parts[3]))
    try:
        return (
            "vfs"
            if subprocess.run(mount, capture_output=True, check=False).returncode
            else "overlay"
        )
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(probe)
