"""Standard output that nobody reads, that is closed, or that carries what a peer wrote."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

Start = Any  # the fixture's launcher; its Daemon lives in conftest, which no test can import

LINES = 20_000  # of 0.5 kB: more than twice what the queue holds


def test_blocked_output_blocks_nothing(start: Start) -> None:
    """With a full pipe the daemon answers; lost lines are counted, and told when it flows again."""
    daemon = start("flood", follow=False, TINY_LINES=str(LINES))
    deadline = time.monotonic() + 20
    while _ask(daemon, "/readyz", deadline) != (503, "link: flooded\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    metrics = _ask(daemon, "/metrics", deadline)[1]
    dropped = _metric(metrics, "egress_router_log_lines_dropped_total")
    assert dropped > LINES / 10
    assert _metric(metrics, "egress_router_loop_lag_seconds") < 1
    daemon.follow()
    daemon.wait_event("log_lines_lost")
    while daemon.wait_event("drift_found")["detail"] != "after":
        pass
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(1) == 0
    numbers = [int(line["detail"].split()[0]) for line in daemon.lines if "xxx" in str(line)]
    assert numbers == sorted(numbers)
    told = sum(line["count"] for line in daemon.lines if line["event"] == "log_lines_lost")
    assert told >= dropped
    assert len(numbers) + told >= LINES, "each line is either there or counted"


def test_blocked_output_does_not_hold_up_the_end(start: Start) -> None:
    """SIGTERM ends the daemon in time although its last lines cannot be written."""
    daemon = start("flood", follow=False, TINY_LINES="500")
    deadline = time.monotonic() + 20
    while _ask(daemon, "/readyz", deadline) != (503, "link: flooded\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(1) == 0


def test_output_whose_reader_has_gone(start: Start) -> None:
    """A broken pipe costs the lines, not the daemon."""
    daemon = start("flood", follow=False, TINY_LINES="500")
    daemon.process.stdout.close()
    deadline = time.monotonic() + 20
    while _ask(daemon, "/readyz", deadline) != (503, "link: flooded\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while not _metric(
        _ask(daemon, "/metrics", deadline)[1], "egress_router_log_lines_dropped_total"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(1) == 0


def test_output_closed_from_the_start(start: Start) -> None:
    """Without descriptor 1 no socket gets its number, lines count as lost, the daemon serves."""
    daemon = start(prefix=("sh", "-c", 'exec "$@" >&- <&-', "sh"))
    deadline = time.monotonic() + 20
    while _ask(daemon, "/readyz", deadline)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    metrics = _ask(daemon, "/metrics", deadline)[1]
    assert _metric(metrics, "egress_router_log_lines_dropped_total") >= 2
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(1) == 0
    assert daemon.lines == []


def test_lines_stay_lines(start: Start) -> None:
    """Control characters of a peer are escaped; warnings of libraries become events."""
    daemon = start("chatter", PYTHONWARNINGS="default")
    line = daemon.wait_event("drift_found")
    assert line["detail"] == "\x1b[2J\r\nevil\x7f\u2028\x9b"
    assert "from a library" in daemon.wait_event("library_message")["message"]
    daemon.wait_event("daemon_started")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end(1) == 0


def test_text_for_people(start: Start) -> None:
    """EGRESS_LOG_FORMAT=text writes one printable line per event."""
    daemon = start("chatter", follow=False, EGRESS_LOG_FORMAT="text", PYTHONWARNINGS="ignore")
    first = daemon.process.stdout.readline().decode()
    assert "drift_found" in first
    assert first.rstrip("\n").isprintable()
    assert r"\x1b[2J\r\nevil\x7f\u2028\x9b" in first
    with pytest.raises(json.JSONDecodeError):
        json.loads(first)


def _ask(daemon: Any, path: str, deadline: float) -> tuple[int, str]:
    """Status and body; waits for the socket to appear."""
    while True:
        try:
            status, _, body = daemon.ask(path)
        except ConnectionRefusedError:
            assert daemon.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return status, body


def _metric(text: str, name: str) -> float:
    return float(text.split(f"\n{name} ")[1].split(maxsplit=1)[0])
