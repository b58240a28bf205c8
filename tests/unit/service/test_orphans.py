"""Exited children: whose are collected, and when."""

from __future__ import annotations

import os
import time

from egress_router.service.orphans import LEAVE_S, observe_exited_children, reap_orphans


def exited_child() -> int:
    """The pid of a child that has exited and that nobody has waited for."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    end = time.monotonic() + 5
    while pid not in observe_exited_children():
        assert time.monotonic() < end
        time.sleep(0.005)
    return pid


def test_an_exited_child_is_left_for_a_while_and_then_collected() -> None:
    """Code of ours that waits for its child in time gets the exit code; a forgotten one goes."""
    pid = exited_child()
    seen = reap_orphans({}, 100.0)
    assert seen[pid] == 100.0
    seen = reap_orphans(seen, 100.0 + LEAVE_S - 0.1)
    assert seen[pid] == 100.0
    assert pid in observe_exited_children()
    assert pid not in reap_orphans(seen, 100.0 + LEAVE_S)
    assert pid not in observe_exited_children()


def test_a_child_collected_by_its_own_code_is_forgotten() -> None:
    """Its pid may come again and starts anew then."""
    pid = exited_child()
    seen = reap_orphans({}, 100.0)
    os.waitpid(pid, 0)
    assert pid not in reap_orphans(seen, 101.0)
