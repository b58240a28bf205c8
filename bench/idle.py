"""Holds connections open: `python -I -S idle.py HOST PORT COUNT` prints `ready` and waits.

With COUNT 0 it waits until the port accepts at all.
"""

import contextlib
import resource
import signal
import socket
import sys
import time

DEADLINE_S = 90.0  # HAProxy looks every name up by itself before it listens


def main() -> None:
    """Connects, says so, and stays."""
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    deadline = time.monotonic() + DEADLINE_S
    while count == 0 and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            break
        time.sleep(0.02)
    held = [socket.create_connection((host, port)) for _ in range(count)]
    print("ready", len(held), flush=True)
    if held:
        signal.pause()


if __name__ == "__main__":
    main()
