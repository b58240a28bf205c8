"""Where log lines go: straight to a descriptor, or through a queue that never blocks the caller.

`QueueWriter` owns a thread because O_NONBLOCK is a property of the open file that a pipe's other
holders share: setting it on stdout would hand short writes to strangers. The thread may block as
long as it likes; the callers fill a bounded queue, and what does not fit is dropped and counted.

A line may be made by that thread too, of what the caller leaves: many at once cost a good deal less
than one in between other work. It makes a bounded number before the others get their turn.

Where several processes write to one pipe, only PIPE_BUF bytes are sure to stay together (pipe(7)).
They take turns by a `WriteLock`: so a line of any length is whole, and a batch is still one write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    # Made, or what makes it.
    Line: TypeAlias = str | tuple[Callable[..., str], tuple[object, ...]]

# 4 MiB: two seconds of a proxy that writes 5,000 lines/s, and little against the pod's memory.
QUEUE_CHARACTERS: Final = 4 * 1024 * 1024
# Lines gather this long before the next write: at most 50 wakes/s of the thread, whatever the load.
GATHER_S: Final = 0.02
# What a line that is not made yet counts as; the longest usual one has 400 characters.
LATE_CHARACTERS: Final = 512
# Lines made in one go, in some 0.3 ms: compiled code does not let go of the interpreter by itself.
LATE_BATCH: Final = 64
# A closed pipe or a full disk is tried again this often.
RETRY_S: Final = 1.0


class Writer(Protocol):
    """Takes finished lines, newline included."""

    dropped: int

    def put(self, line: str) -> None:
        """Takes one line."""

    def put_late(self, make: Callable[..., str], *args: object) -> None:
        """Takes a line that is made when it is written, perhaps by another thread."""

    def close(self, timeout_s: float) -> None:
        """Writes what is left, for no longer than that."""


class WriteLock:
    """Held by one process at a time; made before they part. The kernel frees it if one is killed.

    A record lock (fcntl_locking(2)), because those belong to a process and not to an open file.
    """

    def __init__(self) -> None:
        made = os.memfd_create("log-lock")
        # Not 0, 1 or 2, should they be closed: whoever writes there must not write here.
        self._file = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(made)

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)


class DirectWriter:
    """Writes each line at once: one-shot programs, where a lost line is worse than a wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.dropped = 0

    def put(self, line: str) -> None:
        """Writes one line; an unwritable descriptor drops it."""
        try:
            _write_all(self._descriptor, _encode(line))
        except OSError:
            self.dropped += 1

    def put_late(self, make: Callable[..., str], *args: object) -> None:
        """Makes and writes it at once."""
        self.put(make(*args))

    def close(self, timeout_s: float) -> None:
        """Nothing is ever left."""


class QueueWriter:
    """Writes lines from a thread of its own; safe to call from signal handlers and threads.

    Args:
        descriptor: duplicated at once, so that nobody can put another file under its number;
            None: there is nothing to write to, every line counts as dropped.
        render_lost: makes the line that tells how many lines were lost at that place.
        limit: characters that may wait.
        turn: held while a batch is written.
    """

    def __init__(
        self,
        descriptor: int | None,
        render_lost: Callable[[int], str],
        *,
        limit: int = QUEUE_CHARACTERS,
        turn: AbstractContextManager[None] | None = None,
    ) -> None:
        self._descriptor = None if descriptor is None else os.dup(descriptor)
        self._render_lost = render_lost
        self._limit = limit
        self._turn = turn or contextlib.nullcontext()
        self._lock = threading.RLock()  # reentrant: a signal handler may log in the middle of put
        self._lines: list[Line] = []
        self._held = 0
        self._idle = True
        self._unreported = 0
        self.dropped = 0
        self._closing = threading.Event()
        self._wake = threading.Lock()  # a binary semaphore whose release is atomic and reentrant
        self._wake.acquire()
        self._worker: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Queues one line, or counts it as dropped; never waits for the descriptor."""
        self._queue(line, len(line))

    def put_late(self, make: Callable[..., str], *args: object) -> None:
        """The same for a line that the thread makes; one that cannot be made is lost."""
        self._queue((make, args), LATE_CHARACTERS)

    def close(self, timeout_s: float) -> None:
        """Waits until all is written, at most that long; what is left is lost."""
        self._closing.set()
        if self._worker is None and not self._lines:
            return
        self._rouse()
        if self._worker is not None:
            self._worker.join(timeout_s)

    def _queue(self, line: Line, size: int) -> None:
        with self._lock:
            if self._held >= self._limit or self._descriptor is None:
                self.dropped += 1
                self._unreported += 1
                return
            self._lines.append(line)
            self._held += size
            wake, self._idle = self._idle, False
        if wake:
            self._rouse()

    def _rouse(self) -> None:
        if self._worker is None:
            # A daemon thread: one that hangs in write(2) must not keep the process alive.
            self._worker = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._worker.start()
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            while batch := self._take():
                self._write(*batch)
                if not self._closing.is_set():
                    time.sleep(GATHER_S)
            if self._closing.is_set():
                return

    def _take(self) -> tuple[list[Line], int] | None:
        """All waiting lines and how many were lost behind them; None: nothing waits."""
        with self._lock:
            if not self._lines:
                self._idle = True
                return None
            lines, self._lines = self._lines, []
            lost, self._unreported = self._unreported, 0
            self._held = 0
            return lines, lost

    def _write(self, lines: list[Line], lost: int) -> None:
        if self._descriptor is None:
            return
        made = self._make(lines)
        lost += len(lines) - len(made)
        text = "".join(made) + (self._render_lost(lost) if lost else "")
        try:
            with self._turn:
                _write_all(self._descriptor, _encode(text))
        except OSError:
            with self._lock:
                self.dropped += len(made)
                self._unreported += lost + len(made)
            self._closing.wait(RETRY_S)

    def _make(self, lines: list[Line]) -> list[str]:
        made = []
        for first in range(0, len(lines), LATE_BATCH):
            if first:
                time.sleep(0)  # whoever waits for the interpreter gets it now
            for line in lines[first : first + LATE_BATCH]:
                try:
                    made.append(line if isinstance(line, str) else line[0](*line[1]))
                except Exception:  # noqa: BLE001 - the thread lives on, and the loss is told
                    with self._lock:
                        self.dropped += 1
        return made


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        view = view[written:]
