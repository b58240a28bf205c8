"""Command lines that give a program what its container would have, and no more.

Each goes before a program: `lab.start_router(("redirect",), {}, wrap=UNPRIVILEGED)`.
"""

from __future__ import annotations

UNPRIVILEGED_UID = 10001

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
