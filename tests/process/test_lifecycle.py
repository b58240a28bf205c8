"""How a daemon starts, drains and ends, seen from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

Start = Any  # the fixture's launcher; its Daemon lives in conftest, which no test can import

SOON_S = 1.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_within_a_second_of_a_stop_signal(start: Start, number: signal.Signals) -> None:
    """A daemon with nothing to drain ends within a second, with exit code 0 and a last line."""
    daemon = start()
    daemon.wait_event("daemon_started")
    daemon.signal(number)
    assert daemon.wait_end(SOON_S) == 0
    assert daemon.events()[-2:] == ["daemon_stopping", "daemon_stopped"]
    assert daemon.lines[-2]["signal"] == number.name


def test_a_stop_signal_during_the_start_ends_the_process(start: Start) -> None:
    """Before the mode serves, SIGTERM ends the process at once, even if the loop is blocked."""
    daemon = start("slow_start")
    daemon.wait_event("daemon_not_ready")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0


def test_a_stop_signal_during_the_imports_ends_the_process(start: Start) -> None:
    """SIGTERM works before anything of the daemon is even imported."""
    daemon = start("slow-import", follow=False)
    assert daemon.process.stdout.readline() == b'{"event": "importing"}\n'
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0


def test_draining_is_not_ready_and_a_second_signal_cuts(start: Start) -> None:
    """While connections drain /readyz says so; the second SIGTERM ends them, exit code 0."""
    daemon = start("drain_forever")
    daemon.wait_event("daemon_started")
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("daemon_stopping")
    status, _, body = daemon.ask("/readyz")
    assert (status, body) == (503, "the daemon drains and will end\n")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0
    assert daemon.events()[-2:] == ["daemon_cut", "daemon_stopped"]


def test_a_second_signal_ends_even_a_loop_that_hangs(start: Start) -> None:
    """A mode that blocks the event loop cannot outlive the second SIGTERM for long."""
    daemon = start("drain_hanging")
    daemon.wait_event("daemon_started")
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("daemon_stopping")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0


def test_a_hanging_thread_does_not_hold_up_the_end(start: Start) -> None:
    """A thread in a system call, such as a name lookup, ends with the process."""
    daemon = start("hanging_thread")
    daemon.wait_event("daemon_started")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0


def test_a_vital_task_that_ends_takes_the_daemon_with_it(start: Start) -> None:
    """The end of a task that must not end is logged on one line; the exit code is not 0."""
    daemon = start("vital")
    assert daemon.wait_end() == 1
    (line,) = (line for line in daemon.lines if line["event"] == "task_failed")
    assert (line["task"], line["error"]) == ("watcher", "ValueError: a task's\nlast words")


def test_a_failing_handler_harms_nobody_else(start: Start) -> None:
    """One connection's error is logged and counted; stray errors are logged once per second."""
    daemon = start("handler")
    daemon.wait_event("daemon_started")
    daemon.wait_event("loop_error")
    metrics = daemon.ask("/metrics")[2]
    assert "egress_router_handler_errors_total 1.0" in metrics
    assert "egress_router_loop_errors_total 5.0" in metrics
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0
    assert (daemon.events().count("handler_failed"), daemon.events().count("loop_error")) == (1, 1)


def test_other_signals_do_not_end_it(start: Start) -> None:
    """SIGHUP reloads where a mode can; SIGUSR1, SIGUSR2 and SIGPIPE are harmless."""
    daemon = start("reload")
    daemon.wait_event("daemon_started")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGHUP):
        daemon.signal(number)
    daemon.wait_event("reload_requested")
    assert daemon.wait_event("daemon_not_ready")["reasons"] == ["link: was reloaded"]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0


def test_one_daemon_of_a_mode_in_a_pod(start: Start) -> None:
    """A second one ends with a clear error; after a SIGKILL nothing is left to trip on."""
    first = start()
    first.wait_event("daemon_started")
    second = start()
    assert second.wait_end() == 4
    assert "daemon runs in this pod" in second.lines[-2]["error"]
    first.kill()
    third = start()
    third.wait_event("daemon_started")


def test_lag_of_the_loop_is_seen(start: Start) -> None:
    """A handler that blocks the loop for 0.4 s shows in the metric of the loop's lag."""
    daemon = start("block_loop")
    daemon.wait_event("daemon_ready")
    lag = daemon.ask("/metrics")[2].split("\negress_router_loop_lag_seconds ")[1].split()[0]
    assert 0.2 < float(lag) < 5


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of its own needs root")
def test_as_pid_1_it_collects_orphans_but_not_its_own(start: Start) -> None:
    """As PID 1 the daemon waits for orphans and leaves the exit codes of its own children alone."""
    daemon = start("orphans", prefix=("unshare", "-p", "-f", "--mount-proc"))
    assert daemon.wait_event("drift_found")["detail"] == "[7, 8]"
    assert daemon.wait_event("daemon_started")["pid"] == 1
    (child,) = _children(daemon.process.pid)
    before = time.monotonic()
    os.kill(child, signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0
    assert time.monotonic() - before < SOON_S


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of its own needs root")
def test_as_pid_1_a_stop_signal_during_the_start_works(start: Start) -> None:
    """The kernel ignores the default action of SIGTERM for PID 1; the early handler does not."""
    daemon = start("slow-import", follow=False, prefix=("unshare", "-p", "-f", "--mount-proc"))
    assert daemon.process.stdout.readline() == b'{"event": "importing"}\n'
    (child,) = _children(daemon.process.pid)
    os.kill(child, signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]
