"""Where lines go and which are written."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from egress_router.config.daemon import LogConfig
from egress_router.service import events, logs
from egress_router.service.library_messages import LibraryHandler

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def _log_restored() -> Iterator[None]:
    """Whatever a test configures is undone."""
    log = logs._log
    before = log.threshold, log.render, log.writer
    first = log.first
    yield
    log.put_in_force(*before, first=first)


@pytest.mark.usefixtures("_log_restored")
@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("debug", ["address_announced", "drift_repaired", "drift_found", "repair_failed"]),
        ("warning", ["drift_found", "repair_failed"]),
        ("error", ["repair_failed"]),
    ],
)
def test_levels(level: str, names: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Events below the configured level are not written; one-shot programs write to stderr."""
    logs.configure_logs(LogConfig(format="json", level=level), daemon=False)
    for event in (
        events.ADDRESS_ANNOUNCED,
        events.DRIFT_REPAIRED,
        events.DRIFT_FOUND,
        events.REPAIR_FAILED,
    ):
        logs.log_event(event)
    out, err = capfd.readouterr()
    assert out == ""
    assert [json.loads(line)["event"] for line in err.splitlines()] == names


@pytest.mark.usefixtures("_log_restored")
def test_unset_format_is_json_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    """Daemons write to stdout; without a terminal and a setting that is JSON."""
    logs.configure_logs(LogConfig(format=None, level="info"), daemon=True)
    logs.log_event(events.DRIFT_FOUND, kind="link")
    logs.close_logs(5)
    assert json.loads(capfd.readouterr().out)["kind"] == "link"
    assert logs.dropped_lines() == 0


@pytest.mark.usefixtures("_log_restored")
def test_unset_format_is_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal people read: text, with the level and the event's name."""
    primary, secondary = os.openpty()
    monkeypatch.setattr(logs, "STDERR", secondary)
    logs.configure_logs(LogConfig(format=None, level="info"), daemon=False)
    logs.log_event(events.DRIFT_FOUND, kind="link")
    text = os.read(primary, 4096).decode()
    os.close(primary)
    os.close(secondary)
    assert not text.startswith("{")
    assert "drift_found" in text


@pytest.mark.usefixtures("_log_restored")
def test_messages_of_libraries_become_events(capfd: pytest.CaptureFixture[str]) -> None:
    """Warnings of `logging` are events with the logger's name and the traceback, if any."""
    logs.configure_logs(LogConfig(format="json", level="info"), daemon=False)
    handler = LibraryHandler(level=logging.WARNING)
    error = ValueError("why")
    handler.handle(
        logging.LogRecord(
            "aiohttp.server",
            logging.ERROR,
            "",
            0,
            "failed on %s",
            ("it",),
            (ValueError, error, None),
        )
    )
    (line,) = capfd.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["event"], record["logger"]) == ("library_message", "aiohttp.server")
    assert record["message"] == "failed on it"
    assert record["traceback"].endswith("ValueError: why")


@pytest.mark.usefixtures("_log_restored")
def test_lines_of_many_threads_stay_whole(capfd: pytest.CaptureFixture[str]) -> None:
    """Threads that log at once never mix their lines, and none is lost."""
    logs.configure_logs(LogConfig(format="json", level="info"), daemon=True)

    def chatter(name: str) -> None:
        for number in range(200):
            logs.log_event(events.DRIFT_FOUND, kind=name, detail=number)

    threads = [threading.Thread(target=chatter, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logs.close_logs(5)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for name in ("t0", "t1", "t2", "t3"):
        assert [line["detail"] for line in lines if line["kind"] == name] == list(range(200))


@pytest.mark.usefixtures("_log_restored")
@pytest.mark.parametrize("daemon", [True, False])
def test_a_late_line_has_the_time_of_its_event(
    daemon: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """However late it is made; below the level it is not made at all."""
    made = []

    def fields() -> dict[str, object]:
        made.append(1)
        time.sleep(0.05)
        return {"kind": "link"}

    logs.configure_logs(LogConfig(format="json", level="warning"), daemon=daemon)
    before = time.time()
    logs.log_late(events.DRIFT_FOUND, fields)
    logs.log_late(events.DRIFT_REPAIRED, fields)
    logs.close_logs(5)
    line = json.loads("".join(capfd.readouterr()))
    assert (line["event"], line["kind"], len(made)) == ("drift_found", "link", 1)
    at = datetime.fromisoformat(line["timestamp"]).timestamp()
    assert before - 0.001 <= at < before + 0.05
