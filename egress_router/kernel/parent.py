"""A process that must not outlive the one that forked it (prctl(2), PR_SET_PDEATHSIG)."""

from __future__ import annotations

import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> bool:
    """Has the kernel kill this process when the parent's main thread ends; whether that is so.

    Ends at once if the parent, known by its pid, has gone already.
    """
    import ctypes  # noqa: PLC0415 - takes 10 ms; a daemon of one process has no use for it

    done: int = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    return done == 0
