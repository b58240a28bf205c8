"""One reload after the other, with a mode that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from egress_router.config.changes import SAME_RULES
from egress_router.errors import ConfigurationError, KernelError, Problem
from egress_router.service import reload as reload_module
from egress_router.service.environment import read_environment
from egress_router.service.reload import Reloader, ReloadUnsupportedError
from egress_router.service.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

    from egress_router.config.settings import Environment

NAME = "EGRESS_HTTP_PROXY_DESTINATION_FILE"
DEADLINE_S = 20.0


class Life:
    """What of a lifecycle a reloader needs."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.vital_ends = 0
        self.tasks = Tasks(self._count)
        self.hangup: Callable[[], None] = lambda: None

    def on_reload(self, callback: Callable[[], None]) -> None:
        """SIGHUP."""
        self.hangup = callback

    def _count(self) -> None:
        self.vital_ends += 1


class Target:
    """A mode whose configuration is the text of its file; `applied` is what was put in force."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.refuse: Exception | None = None

    def parse(self, environment: Environment) -> str:
        """`bad` is wrong in two ways, `bug` shows a fault of ours."""
        (text,) = (*environment.files.values(), *environment.unreadable.values())
        if text.startswith("bad"):
            raise ConfigurationError(
                tuple(Problem(variable="EGRESS_X", message=m, line=1) for m in ("one", "two"))
            )
        if text.startswith("bug"):
            raise ZeroDivisionError
        return text

    def compare(self, old: str, new: str) -> tuple[str, ...]:
        """Comments are nothing."""
        same = old.partition(" #")[0] == new.partition(" #")[0]
        return () if same else (f"{old} to {new}",)

    def prepare(self, new: str) -> str:
        """Something that takes long."""
        return new.upper()

    async def apply(self, new: str, prepared: str) -> int:
        """Two connections are ended each time."""
        if self.refuse is not None:
            raise self.refuse
        assert prepared == new.upper()
        self.applied.append(new)
        return 2


class Scene:
    """A reloader at work on a file."""

    def __init__(self, path: Path, life: Life, target: Target, reloader: Reloader) -> None:
        self.path, self.life, self.target, self.reloader = path, life, target, reloader

    async def settle(self, result: str, count: int = 1) -> Any:
        """The report, once so many reloads have ended like that."""
        report = self.reloader.report
        end = self.life.loop.time() + DEADLINE_S
        while True:
            if report.result == result and report.counts[report.result] >= count:
                return report
            assert self.life.loop.time() < end, report.status()
            await asyncio.sleep(0.01)  # nothing tells of the end of a reload


@contextlib.asynccontextmanager
async def playing(
    tmp_path: Path, *, files: bool = True, poll_s: float = 30
) -> AsyncIterator[Scene]:
    """A reloader that has begun with the text `start`."""
    path = tmp_path / "list"
    path.write_text("start")
    life, target = Life(), Target()
    environment = read_environment({NAME: str(path)} if files else {})
    reloader = Reloader("http", environment, life, poll_s=poll_s)
    reloader.open(target, "start")
    try:
        yield Scene(path, life, target, reloader)
    finally:
        await life.tasks.end(5)
        reloader.close()
        assert life.vital_ends == 0


def play(scenario: Callable[[], Any]) -> None:
    """Runs a scenario."""
    asyncio.run(scenario())


def test_a_changed_file_is_put_in_force(tmp_path: Path) -> None:
    """Once, with what differs in words and the connections it ended."""

    async def scenario() -> None:
        async with playing(tmp_path) as scene:
            scene.path.write_text("new")
            report = await scene.settle("applied")
            assert (report.generation, report.ended) == (2, 2)
            assert report.changes == ("start to new",)
            assert report.source == str(scene.path)
            assert scene.target.applied == ["new"]
            scene.path.write_text("new # comment")
            await scene.settle("applied", 2)
            assert report.changes == (SAME_RULES,)

    play(scenario)


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    """All problems are kept; the old text again is a success without a change."""

    async def scenario() -> None:
        async with playing(tmp_path) as scene:
            scene.path.write_text("bad")
            report = await scene.settle("refused")
            assert report.problems == ("EGRESS_X line 1: one", "EGRESS_X line 1: two")
            scene.path.write_text("start")
            report = await scene.settle("applied")
            assert (report.generation, report.changes, scene.target.applied) == (1, (), [])

    play(scenario)


def test_a_fault_of_ours_ends_nothing(tmp_path: Path) -> None:
    """An unforeseen error in reading is a refusal that names it."""

    async def scenario() -> None:
        async with playing(tmp_path) as scene:
            scene.path.write_text("bug")
            report = await scene.settle("refused")
            assert report.problems[0].startswith("ZeroDivisionError")
            scene.path.write_text("new")
            await scene.settle("applied")

    play(scenario)


def test_what_stood_in_the_way_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound list that the kernel refuses is put in force once it can be."""
    monkeypatch.setattr(reload_module, "RETRY_S", 0.05)

    async def scenario() -> None:
        async with playing(tmp_path) as scene:
            scene.target.refuse = KernelError("load the table", "no such device")
            scene.path.write_text("new")
            report = await scene.settle("refused", 2)
            assert report.problems == ("load the table: no such device",)
            scene.target.refuse = None
            await scene.settle("applied")
            assert scene.target.applied == ["new"]

    play(scenario)


def test_what_a_daemon_cannot_do_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what it would take, once."""
    monkeypatch.setattr(reload_module, "RETRY_S", 0.01)

    async def scenario() -> None:
        async with playing(tmp_path, poll_s=0.05) as scene:
            scene.target.refuse = ReloadUnsupportedError("lacks something")
            scene.path.write_text("new")
            report = await scene.settle("unsupported")
            await asyncio.sleep(0.3)
            assert report.counts["unsupported"] == 1

    play(scenario)


def test_a_signal_is_always_answered(tmp_path: Path) -> None:
    """Without watching it is the only way; during a drain nothing changes any more."""

    async def scenario() -> None:
        async with playing(tmp_path, poll_s=0) as scene:
            scene.life.hangup()
            report = await scene.settle("applied")
            assert (report.source, report.generation) == ("SIGHUP", 1)
            scene.path.write_text("new")
            scene.life.hangup()
            await scene.settle("applied", 2)
            assert scene.target.applied == ["new"]
            scene.life.stopping.set()
            scene.path.write_text("late")
            scene.life.hangup()
            await asyncio.sleep(0.2)
            assert scene.target.applied == ["new"]

    play(scenario)


def test_a_list_in_the_environment(tmp_path: Path) -> None:
    """It cannot change, and the variable that could help is named."""

    async def scenario() -> None:
        async with playing(tmp_path, files=False) as scene:
            scene.life.hangup()
            report = await scene.settle("unsupported")
            assert NAME in report.problems[0]

    play(scenario)


def test_a_file_that_changed_while_the_daemon_started(tmp_path: Path) -> None:
    """What the start has read may be old by the time the file is watched."""

    async def scenario() -> None:
        path = tmp_path / "list"
        path.write_text("start")
        environment = read_environment({NAME: str(path)})
        path.write_text("new")
        life, target = Life(), Target()
        reloader = Reloader("http", environment, life, poll_s=30)
        reloader.open(target, "start")
        scene = Scene(path, life, target, reloader)
        await scene.settle("applied")
        await life.tasks.end(5)
        reloader.close()
        assert target.applied == ["new"]

    play(scenario)
