"""How the demonstration drives the router's own programs: init, a daemon, its readiness."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from egress_router.lab.privileges import UNPRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.lab.process import Process
    from egress_router.lab.world import Lab

READY_LIMIT_S = 20.0  # a first start on a busy machine; the usual is well below one second


def run_init(lab: Lab, environment: Mapping[str, str]) -> float:
    """Runs init as root and returns how many seconds it took; RuntimeError with what it said."""
    start = time.monotonic()
    done = lab.router(("init",), environment, check=False)
    if done.returncode:
        raise RuntimeError(f"init ended with {done.returncode}: {done.stderr.strip()}")
    return time.monotonic() - start


def start_daemon(lab: Lab, mode: str, environment: Mapping[str, str]) -> Process:
    """Starts a mode's daemon without privileges and returns when it is ready."""
    process = lab.start_router((mode,), environment, wrap=UNPRIVILEGED)
    wait_until_ready(lab, process)
    return process


def wait_until_ready(lab: Lab, process: Process, limit_s: float = READY_LIMIT_S) -> float:
    """Asks `health` until it agrees and returns the seconds that took.

    RuntimeError if the daemon ends meanwhile, TimeoutError if it is never ready.
    """
    start = time.monotonic()
    while True:
        health = lab.router(("health",), {}, wrap=UNPRIVILEGED, check=False)
        took = time.monotonic() - start
        if health.returncode == 0:
            return took
        if not process.running:
            raise RuntimeError(f"{process.name} ended with {process.wait()}: {process.tail()}")
        if took > limit_s:
            said = (health.stdout + health.stderr).strip()
            raise TimeoutError(f"{process.name} was not ready in {limit_s} s; health said: {said}")
