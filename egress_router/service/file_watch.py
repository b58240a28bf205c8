"""Says when a configuration file has changed, and that nobody is still writing it.

1. What a path leads to is decided by every folder on its way: a ConfigMap's file is a link through
   `..data`, which is replaced as a whole. Each such folder is watched, and the file itself.
2. A change is told once it is complete: at once when its writer has closed the file or a new one
   has been moved there; after PATIENCE_S while somebody holds it open, half written; after QUIET_S
   where there is no file or an empty one, for editors remove one before they put the next.
3. The kernel's notices may be missing: no inotify left on the node, a file system that has none, a
   mount that was replaced. So the file is looked at every `poll_s` too. All it takes is permission
   to read.
4. Files are touched in a thread: a file system that hangs must not stop the daemon.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from egress_router.kernel.inotify import Inotify

SETTLE_S = 0.1  # the kubelet swaps a ConfigMap by a handful of calls
QUIET_S = 1.0
PATIENCE_S = 5.0
LINKS_MAX = 40  # MAXSYMLINKS of the kernel
_MOUNTS = Path("/proc/self/mountinfo")

_SIZE = 2
# Device, inode, size, times and links of a file; or why there is none.
Signature: TypeAlias = tuple[int, ...] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The folders on the way to a file, with the entries that matter in each; then the file."""

    entries: Mapping[str, frozenset[str]]
    file: str


def observe_trail(path: str) -> Trail:
    """Follows a path link by link, as far as there is something."""
    entries: dict[str, set[str]] = {}
    current, left, links = "/", _parts(path), 0
    while left:
        part = left.pop(0)
        if part == "..":
            current = os.path.dirname(current)  # noqa: PTH120 - text, as readlink(2) gives it
            continue
        following = os.path.join(current, part)  # noqa: PTH118
        try:
            target = os.readlink(following)  # noqa: PTH115
        except OSError:
            target = None
        if target is None and left:
            current = following
            continue
        entries.setdefault(current, set()).add(part)
        if target is None:
            current = following
            break
        links += 1
        if links > LINKS_MAX:
            break
        current = "/" if target.startswith("/") else current
        left = _parts(target) + left
    return Trail(entries={k: frozenset(v) for k, v in entries.items()}, file=current)


def observe_signature(path: str) -> Signature:
    """What changes when a file does."""
    try:
        seen = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return error.strerror or str(error)
    return (
        seen.st_dev,
        seen.st_ino,
        seen.st_size,
        seen.st_mtime_ns,
        seen.st_ctime_ns,
        seen.st_nlink,
    )


def observe_links(path: str) -> int | None:
    """How many names a file has; none, if it was removed and a mount still shows it."""
    try:
        return os.stat(path).st_nlink  # noqa: PTH116
    except OSError:
        return None


def observe_single_mount(path: str, mounts: Path = _MOUNTS) -> bool:
    """Whether that very file is a mount of its own, as Kubernetes' `subPath` makes one."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    wanted = os.path.realpath(path)
    points = (line.split()[4] for line in lines if len(line.split()) > 4)
    return wanted in {_unescape(point) for point in points}


class FileWatch:
    """Watches one file. `executor`: where the file system is touched. `poll_s`: rule 3."""

    def __init__(self, path: str, *, poll_s: float, executor: Executor) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 - keeps links, unlike resolve()
        self.fault = ""  # why there are no notices, if there are none
        self._poll_s = poll_s
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._inotify: Inotify | None = None
        self._watched: dict[int, str] = {}
        self._trail = Trail(entries={}, file=self.path)
        self._seen: Signature = ""
        self._written = False  # somebody has written and not closed yet
        self._noticed = asyncio.Event()

    async def open(self) -> None:
        """Begins to watch: what changes from now on is told by `wait`."""
        await self._loop.run_in_executor(self._executor, self._start)
        if self._inotify is not None:
            self._loop.add_reader(self._inotify.fileno(), self._read)
        self._seen = await self._look()

    def close(self) -> None:
        """Watches no more."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    async def wait(self) -> None:
        """Returns when the file is another one, or holds something else, and is complete."""
        while True:
            noticed = await self._next(self._poll_s)
            seen = await self._look()
            if not noticed and seen == self._seen:
                continue
            while True:
                # Without notices nobody tells that a writer has closed.
                delay_s = self._decide_delay(seen) if noticed else QUIET_S
                noticed = await self._next(delay_s)
                now = await self._look()
                if not noticed and now == seen:
                    break
                seen = now
            self._seen, self._written = seen, False
            return

    async def _next(self, timeout_s: float) -> bool:
        """Whether there were notices before that time was over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._noticed.wait()
        except TimeoutError:
            return False
        self._noticed.clear()
        return True

    def _decide_delay(self, seen: Signature) -> float:
        """How long nothing more must happen until the file counts as complete (rule 2)."""
        if isinstance(seen, str) or not seen[_SIZE]:
            return QUIET_S
        return PATIENCE_S if self._written else SETTLE_S

    def _read(self) -> None:
        from egress_router.kernel import inotify  # noqa: PLC0415 - loaded already, see _start

        if self._inotify is None:
            return
        for notice in self._inotify.read():
            folder = self._watched.get(notice.watch)
            if notice.mask & inotify.IGNORED:
                continue
            # A watch of which the thread has not told yet, or a burst too long to be told.
            if folder is None or self._matters(folder, notice.name):
                self._note(notice.mask)

    def _matters(self, folder: str, name: str) -> bool:
        if folder == self._trail.file:
            return True
        return name in self._trail.entries.get(folder, ())

    def _note(self, mask: int) -> None:
        from egress_router.kernel import inotify  # noqa: PLC0415 - as above

        complete = bool(mask & (inotify.CLOSE_WRITE | inotify.MOVED_TO))
        self._written = not complete and (self._written or bool(mask & inotify.MODIFY))
        self._noticed.set()

    def _start(self) -> None:
        from egress_router.kernel.inotify import Inotify  # noqa: PLC0415 - ctypes takes 10 ms

        try:
            self._inotify = Inotify()
        except OSError as error:
            self.fault = f"{error.filename}: {error.strerror}"

    async def _look(self) -> Signature:
        """Follows the path again, watches what is on its way, and looks at the file."""
        trail, signature = await self._loop.run_in_executor(self._executor, self._follow)
        self._trail = trail
        return signature

    def _follow(self) -> tuple[Trail, Signature]:
        trail = observe_trail(self.path)
        inotify = self._inotify
        if inotify is not None:
            watched = {}
            for one in (*trail.entries, trail.file):
                try:
                    watched[inotify.watch(one)] = one
                except OSError as error:
                    if one != trail.file:
                        self.fault = f"{one}: {error.strerror}"
            for gone in self._watched.keys() - watched.keys():
                inotify.unwatch(gone)
            self._watched = watched
        return trail, observe_signature(self.path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _unescape(point: str) -> str:
    """A mount point as proc_pid_mountinfo(5) writes it: blanks and backslashes are octal."""
    for code in ("\\040", "\\011", "\\012"):
        point = point.replace(code, chr(int(code[1:], 8)))
    return point.replace("\\134", "\\")
