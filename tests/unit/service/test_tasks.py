"""Background tasks and what their ends mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from egress_router.service import tasks as tasks_module
from egress_router.service.tasks import LoopErrors, Tasks

Lines = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Every event that tasks log."""
    lines: Lines = []
    monkeypatch.setattr(
        tasks_module, "log_event", lambda event, **fields: lines.append((event.name, fields))
    )
    return lines


async def fail() -> None:
    """Ends by an error."""
    raise ValueError("broken")


async def end() -> None:
    """Ends well."""


async def stay() -> None:
    """Never ends."""
    await asyncio.Event().wait()


def test_a_vital_task_that_ends_is_told(logged: Lines) -> None:
    """By an exception, by returning or by being cancelled: each is logged with the task's name."""
    ended: list[None] = []

    async def run() -> None:
        tasks = Tasks(lambda: ended.append(None))
        running = [tasks.start_vital(c.__name__, c()) for c in (fail, end, stay)]
        running[2].cancel()
        await asyncio.wait(running)
        await asyncio.sleep(0)
        assert len(tasks) == 0

    asyncio.run(run())
    assert len(ended) == 3
    assert {(name, f["task"], f["error"]) for name, f in logged} == {
        ("task_failed", "fail", "ValueError: broken"),
        ("task_failed", "end", "it ended by itself"),
        ("task_failed", "stay", "it ended by itself"),
    }


def test_a_handler_that_fails_is_logged_and_nothing_else(logged: Lines) -> None:
    """A connection's error concerns nobody; ending well or being cancelled is no error."""
    ended: list[None] = []

    async def run() -> int:
        tasks = Tasks(lambda: ended.append(None))
        running = [tasks.start_handler(c.__name__, c()) for c in (fail, end, stay)]
        running[2].cancel()
        await asyncio.wait(running)
        await asyncio.sleep(0)
        return tasks.failed_handlers

    assert asyncio.run(run()) == 1
    assert ended == []
    assert [(name, f["task"]) for name, f in logged] == [("handler_failed", "fail")]


def test_the_end_is_no_failure(logged: Lines) -> None:
    """At the daemon's end its tasks are cancelled quietly."""

    async def run() -> None:
        tasks = Tasks(lambda: pytest.fail("told"))
        task = tasks.start_vital("stay", stay())
        await asyncio.sleep(0)
        await tasks.end(1)
        assert task.cancelled()

    asyncio.run(run())
    assert logged == []


def test_stray_errors_are_logged_once_per_kind_and_second(logged: Lines) -> None:
    """The same line raising again within a second is counted, and told with the next line."""
    now = 0.0
    handler = LoopErrors(lambda: now)
    loop: Any = None

    def stray(message: str) -> None:
        try:
            _ = 1 / 0
        except ZeroDivisionError as error:
            handler(loop, {"message": message, "exception": error})

    for number in range(5):
        stray(f"Exception in callback at 0x{number}")
    handler(loop, {"message": "socket.send() raised"})
    now = 1.5
    stray("again")
    assert [(f["message"], f["suppressed"]) for _, f in logged] == [
        ("Exception in callback at 0x0", 0),
        ("socket.send() raised", 0),
        ("again", 4),
    ]
    assert handler.total == 7


def test_kinds_are_bounded(logged: Lines) -> None:
    """A flood of ever new messages does not fill the memory."""
    handler = LoopErrors(lambda: 0.0)
    loop: Any = None
    for number in range(1000):
        handler(loop, {"message": f"message {number}"})
    assert len(handler._kinds) <= 100
