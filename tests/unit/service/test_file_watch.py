"""When a changed file is told of: on a real file system, with and without the kernel's notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress_router.kernel import inotify
from egress_router.service import file_watch
from egress_router.service.file_watch import (
    FileWatch,
    observe_signature,
    observe_single_mount,
    observe_trail,
)
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 20.0


@contextlib.asynccontextmanager
async def watching(path: Path, poll_s: float = 60.0) -> AsyncIterator[FileWatch]:
    """A watch that is open."""
    with ThreadPoolExecutor(1) as executor:
        watch = FileWatch(str(path), poll_s=poll_s, executor=executor)
        await watch.open()
        try:
            yield watch
        finally:
            watch.close()


async def told(watch: FileWatch) -> float:
    """How long it took until a change was told of."""
    started = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        await watch.wait()
    return time.monotonic() - started


def test_the_trail_of_a_configmap() -> None:
    """Every folder on the way counts, with the entries that matter in it."""
    with ConfigMap("x") as config:
        trail = observe_trail(str(config.file))
        real = os.path.realpath(config.file)
        assert trail.file == real
        assert trail.entries[str(config.folder)] >= {"destination", "..data"}
        assert trail.entries[str(Path(real).parent)] == {"destination"}


def test_a_trail_that_leads_nowhere(tmp_path: Path) -> None:
    """Links in a circle, and folders that are not there, end it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert observe_trail(str(tmp_path / "a")).entries[str(tmp_path)] == {"a", "b"}
    (tmp_path / "up").symlink_to("../nowhere/file")
    assert observe_trail(str(tmp_path / "up")).file == str(tmp_path.parent / "nowhere" / "file")
    assert observe_signature(str(tmp_path / "a")) == os.strerror(40)


CHANGES: dict[str, Callable[[ConfigMap], object]] = {
    "swap": lambda config: config.swap("new"),
    "in place": lambda config: config.file.write_text("new"),
    "moved over": lambda config: (
        (config.folder / "n").write_text("new") and (config.folder / "n").replace(config.file)
    ),
    "removed": lambda config: config.file.unlink(),
    "touched": lambda config: os.utime(config.file, (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("notices", [True, False])
def test_changes_are_told(
    change: Callable[[ConfigMap], object], notices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's notices at once; where there are none, by looking."""
    if not notices:

        def refuse(_self: object) -> None:
            raise OSError(24, "Too many open files", "inotify_init1")

        monkeypatch.setattr(inotify.Inotify, "__init__", refuse)

    async def watch_it(config: ConfigMap) -> None:
        async with watching(config.file, 60.0 if notices else 0.05) as watch:
            assert bool(watch.fault) is not notices
            change(config)
            await told(watch)

    with ConfigMap("old") as config:
        asyncio.run(watch_it(config))


def test_half_a_file_is_not_told(tmp_path: Path) -> None:
    """As long as somebody has it open and writes, nothing is told; then at once."""
    path = tmp_path / "list"
    path.write_text("old")

    async def write() -> None:
        async with watching(path) as watch:
            task = asyncio.create_task(told(watch))
            with path.open("w") as file:
                file.write("half")
                file.flush()
                done, _ = await asyncio.wait({task}, timeout=1.5)
                assert not done
            closed = time.monotonic()
            await task
            assert time.monotonic() - closed < file_watch.PATIENCE_S / 2

    asyncio.run(write())


def test_whoever_never_closes_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that holds the file open does not keep its text from being read."""
    monkeypatch.setattr(file_watch, "PATIENCE_S", 0.5)
    path = tmp_path / "list"
    path.write_text("old")

    async def write() -> None:
        async with watching(path) as watch:
            with path.open("w") as file:
                file.write("whole")
                file.flush()
                assert await told(watch) >= 0.4

    asyncio.run(write())


def test_other_files_of_the_folder_wake_nobody(tmp_path: Path) -> None:
    """A folder may be busy with things that are none of ours."""
    path = tmp_path / "list"
    path.write_text("old")

    async def write() -> None:
        async with watching(path) as watch:
            task = asyncio.create_task(told(watch))
            for number in range(20):
                (tmp_path / f"other{number}").write_text("x")
            done, _ = await asyncio.wait({task}, timeout=0.5)
            assert not done
            path.write_text("new")
            await task

    asyncio.run(write())


def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    """A file that is not there yet is found once it is, however deep."""
    path = tmp_path / "a" / "b" / "list"

    async def write() -> None:
        async with watching(path, 0.1) as watch:
            path.parent.mkdir(parents=True)
            path.write_text("new")
            await told(watch)
            path.write_text("newer")
            await told(watch)

    asyncio.run(write())


def test_mounts_of_single_files(tmp_path: Path) -> None:
    """Told from the kernel's table, blanks in a name and all; without a table nothing is said."""
    path = tmp_path / "a file"
    path.touch()
    table = tmp_path / "mountinfo"
    shown = str(path).replace(" ", "\\040")
    table.write_text(f"1 0 0:1 / {shown} rw - tmpfs tmpfs rw\nshort\n")
    assert observe_single_mount(str(path), table)
    assert not observe_single_mount(str(tmp_path), table)
    assert not observe_single_mount(str(path), tmp_path / "none")
