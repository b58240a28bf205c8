"""A daemon of several processes, seen from outside: one start, one log, one end."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

Start = Any  # the fixture's launcher; its Daemon lives in conftest, which no test can import

DEADLINE_S = 10.0
SOON_S = 3.0  # a moment, on a machine that does much else
TWO = {"EGRESS_WORKERS": "2"}


def children(pid: int) -> list[int]:
    """The pids of a process' children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def alive(pid: int) -> bool:
    """Whether a process is there, and no mere entry that nobody has waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in {b"Z", b"X"}


def gone(pids: list[int], within_s: float) -> bool:
    """Whether all of them are gone within that time."""
    end = time.monotonic() + within_s
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)  # between two looks at /proc
    return True


def started(start: Start, behaviour: str = "plain", **variables: str) -> tuple[Any, list[int]]:
    """A ready daemon, and the pids of its workers."""
    daemon = start(behaviour, **{**TWO, **variables})
    daemon.wait_event("daemon_ready")
    return daemon, children(daemon.process.pid)


def status(daemon: Any) -> dict[str, Any]:
    """The document of /status."""
    document: dict[str, Any] = json.loads(daemon.ask("/status")[2])
    return document


@pytest.mark.parametrize("count", [2, 3])
def test_one_daemon_of_several_processes(start: Start, count: int) -> None:
    """Each worker has a line of its own and a row in the status; SIGTERM ends all, exit code 0."""
    daemon, workers = started(start, EGRESS_WORKERS=str(count))
    assert len(workers) == count - 1
    rows = status(daemon)["workers"]
    assert [(row["worker"], row["pid"], row["state"]) for row in rows] == [
        (number, pid, "ok") for number, pid in enumerate(workers, 1)
    ]
    assert all(row["memory_bytes"] > 1_000_000 for row in rows)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0
    assert gone(workers, SOON_S)
    told = collections.Counter(daemon.events())
    assert told["worker_started"] == count - 1
    for event in ("daemon_started", "daemon_ready", "daemon_stopping", "daemon_stopped"):
        assert told[event] == 1
    assert not told["daemon_not_ready"]


def test_the_admin_port_is_the_first_process_own(start: Start, exchange_on: Any) -> None:
    """It is opened once, and whoever asks there is told of all processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started(start, EGRESS_ADMIN_PORT=str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        assert len(json.loads(exchange_on(connection, "/status")[2])["workers"]) == 1


def test_one_process_stays_alone(start: Start) -> None:
    """With a count of 1 there is no other process, no channel, and no word of workers."""
    daemon, workers = started(start, EGRESS_WORKERS="1")
    assert workers == []
    document = status(daemon)
    assert "workers" not in document
    assert "workers" not in document["conditions"]
    links = [str(path.readlink()) for path in Path(f"/proc/{daemon.process.pid}/fd").iterdir()]
    assert not [link for link in links if "memfd" in link]


def test_a_mode_that_cannot_be_shared_is_one_process(start: Start) -> None:
    """It is not even asked how many there should be."""
    daemon, workers = started(start, TINY_SHARES="no")
    assert workers == []
    assert "workers" not in status(daemon)


def test_a_killed_worker_ends_the_daemon(start: Start) -> None:
    """Exit code 1, a line that says who and how, and nothing left behind."""
    daemon, workers = started(start, EGRESS_WORKERS="3")
    os.kill(workers[1], signal.SIGKILL)
    assert daemon.wait_end(2 * SOON_S) == 1
    (line,) = (line for line in daemon.lines if line["event"] == "worker_ended")
    assert (line["worker"], line["pid"], line["exit_code"]) == (2, workers[1], -9)
    assert gone(workers, SOON_S)


def test_a_worker_that_fails_ends_the_daemon(start: Start) -> None:
    """Its own line says why."""
    daemon = start("worker_dies", **TWO)
    assert daemon.wait_end() == 1
    (line,) = (line for line in daemon.lines if line["event"] == "daemon_failed")
    assert line["error"] == "ValueError: a worker's last words"
    assert "worker_ended" in daemon.events()


@pytest.mark.parametrize("stopped", [False, True], ids=["working", "stopped"])
def test_no_worker_outlives_the_first_process(start: Start, stopped: bool) -> None:
    """A SIGKILL of the daemon takes its workers along, even one that is frozen."""
    daemon, workers = started(start, EGRESS_WORKERS="3")
    if stopped:
        os.kill(workers[0], signal.SIGSTOP)
    daemon.kill()
    assert gone(workers, SOON_S)


def test_workers_obey_the_first_process_alone(start: Start) -> None:
    """Signals to a worker do nothing."""
    daemon, (worker,) = started(start)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(worker, number)
    assert status(daemon)["workers"][0]["state"] == "ok"
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0


def test_a_ctrl_c_that_hits_all_of_them_is_one_drain(start: Start) -> None:
    """A terminal signals the whole group; the daemon drains as if it had been asked alone."""
    daemon, workers = started(start, TINY_GROUP="own")
    os.killpg(daemon.process.pid, signal.SIGINT)
    assert daemon.wait_end(2 * SOON_S) == 0
    assert gone(workers, SOON_S)
    assert daemon.events()[-2:] == ["daemon_stopping", "daemon_stopped"]


def test_a_stop_signal_during_the_start_ends_all(start: Start) -> None:
    """Before the mode serves, SIGTERM ends every process at once."""
    daemon = start("slow_start", **TWO)
    daemon.wait_event("daemon_not_ready")
    workers = children(daemon.process.pid)
    assert len(workers) == 1
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(SOON_S) == 0
    assert gone(workers, SOON_S)


def test_the_drain_ends_with_the_last_process(start: Start, tmp_path: Path) -> None:
    """What a worker has open is waited for, and its last lines are there."""
    gate = tmp_path / "gate"
    daemon, workers = started(start, "drain_until_gate", TINY_GATE=str(gate))
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("daemon_stopping")
    assert not gone(workers, 0.2)
    assert daemon.process.poll() is None
    gate.touch()
    assert daemon.wait_end(2 * SOON_S) == 0
    drained = sorted(line["id"] for line in daemon.lines if line["event"] == "http_allowed")
    assert drained == ["0-drained", "1-drained"]


@pytest.mark.parametrize("behaviour", ["drain_forever", "drain_hanging", "worker_hangs_draining"])
def test_a_second_signal_cuts_everywhere(start: Start, behaviour: str) -> None:
    """Also a process that does not listen any more."""
    daemon, workers = started(start, behaviour)
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("daemon_stopping")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0
    assert gone(workers, SOON_S)


def test_ready_is_when_every_process_is(start: Start, tmp_path: Path) -> None:
    """A worker that is not ready keeps the daemon from it, with its number and its reason."""
    gate = tmp_path / "gate"
    daemon = start("worker_waits", **TWO, TINY_GATE=str(gate))
    reasons = daemon.wait_event("daemon_not_ready")["reasons"]
    assert reasons == ["workers: worker 1: link: link macvlan0 is down"]
    assert daemon.ask("/readyz")[0] == 503
    gate.touch()
    daemon.wait_event("daemon_ready")
    assert daemon.ask("/readyz")[0] == 200


def test_a_worker_that_hangs_is_told_of_and_ends_the_daemon(start: Start) -> None:
    """First not ready, while the rest of the status is told; then a fresh start is better."""
    daemon, workers = started(start, "worker_hangs")
    reasons = daemon.wait_event("daemon_not_ready")["reasons"]
    assert reasons == ["workers: worker 1 does not answer"]
    document = status(daemon)
    assert "does not answer; what is told of it is old" in document["warnings"][0]
    assert daemon.wait_end() == 1
    (line,) = (line for line in daemon.lines if line["event"] == "worker_silent")
    assert (line["worker"], line["pid"]) == (1, workers[0])


def test_metrics_are_those_of_all_processes(start: Start) -> None:
    """Counters of each process are added up; the processes' own figures too."""
    daemon, _ = started(start, "handler")
    deadline = time.monotonic() + DEADLINE_S
    while "egress_router_loop_errors_total 10.0" not in (text := daemon.ask("/metrics")[2]):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)  # a worker's errors come a moment after its start
    assert "egress_router_handler_errors_total 2.0" in text
    assert 'egress_router_repairs_total{kind="link"} 2.0' in text
    assert 'egress_router_condition{condition="workers"} 1.0' in text
    resident = float(text.split("\nprocess_resident_memory_bytes ")[1].split()[0])
    rows = status(daemon)
    parts = rows["process"]["memory_bytes"] + rows["workers"][0]["memory_bytes"]
    assert resident == pytest.approx(parts, rel=0.2)


def test_lines_of_two_processes_never_mix(start: Start) -> None:
    """Lines of up to 20 kB from both at once, through one pipe: each is whole, and none is lost."""
    count = 600
    daemon = start("long_lines", **TWO, TINY_LINES=str(count))
    seen: dict[str, list[int]] = {"0": [], "1": []}
    while sum(map(len, seen.values())) < 2 * count:
        line = daemon.wait_event("http_allowed")
        number, _, rest = line["reason"].partition(" ")
        assert rest == "x" * (int(number) * 37 % 20_000)
        seen[line["id"].partition("-")[0]].append(int(number))
    assert seen == {"0": list(range(count)), "1": list(range(count))}
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0


def test_output_closed_from_the_start(start: Start) -> None:
    """No channel gets the number of a standard descriptor, and nothing writes a line into it."""
    daemon = start(prefix=("sh", "-c", 'exec "$@" >&- <&-', "sh"), **TWO)
    deadline = time.monotonic() + DEADLINE_S
    ready = False
    while not ready:
        with contextlib.suppress(ConnectionRefusedError):
            ready = daemon.ask("/readyz")[0] == 200
        assert time.monotonic() < deadline
        time.sleep(0.02)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(2 * SOON_S) == 0
    assert daemon.lines == []


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of its own needs root")
def test_as_pid_1(start: Start) -> None:
    """In a container the first process is PID 1, and a lost worker ends the container."""
    daemon = start(prefix=("unshare", "-p", "-f", "--mount-proc"), **TWO)
    daemon.wait_event("daemon_ready")
    (first,) = children(daemon.process.pid)
    (worker,) = children(first)
    os.kill(worker, signal.SIGKILL)
    assert daemon.wait_end(2 * SOON_S) == 1
    (line,) = (line for line in daemon.lines if line["event"] == "worker_ended")
    assert line["exit_code"] == -9
