"""Command lines that give a program what its container would have, and no more.

Each goes before a program: `lab.start_router(("redirect",), {}, wrap=UNPRIVILEGED)`.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import egress_router

DAEMON_UID = 10001


def readable_by_all(path: Path) -> bool:
    """Whether any user may read a folder and walk to it."""
    folders = [path, *path.parents]
    walkable = all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)
    return walkable and bool(path.stat().st_mode & stat.S_IROTH)


def choose_uid() -> int:
    """The daemons' uid: 10001; or 0, which owns them, where a home folder hides the programs.

    What a daemon may do to the network depends on its capabilities alone, and it has none.
    """
    needed = (Path(egress_router.__file__).parent, Path(sys.prefix), Path(sys.base_prefix))
    return DAEMON_UID if all(map(readable_by_all, needed)) else 0


UNPRIVILEGED_UID = choose_uid()

UNPRIVILEGED = (
    "setpriv",
    f"--reuid={UNPRIVILEGED_UID}",
    f"--regid={UNPRIVILEGED_UID}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
)
"""The daemons: any uid, no capability."""

INIT_CAPABILITIES = (
    "setpriv",
    "--bounding-set=-all,+net_admin,+net_raw",
    "--inh-caps=-all",
    "--no-new-privs",
)
"""Init in its reduced form: root with NET_ADMIN and NET_RAW."""

READ_ONLY_SYSCTLS = (
    "unshare",
    "--mount",
    "sh",
    "-ec",
    'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"',
    "sh",
)
"""A container that is not privileged: `/proc/sys` cannot be written. Put it before the others."""
