"""A program that runs in a namespace while a test goes on; its output goes to two files.

Files, not pipes: a world that is kept outlives whoever started it.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from pathlib import Path

POLL_S = 0.005  # between two looks at a file: far below what a test notices, cheap on the CPU
DEADLINE_S = 10.0
TAIL_LINES = 20


class Process:
    """One started program, ended by its own id only."""

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.name = name
        self.stdout = log.with_name(f"{log.name}-{name}.out")
        self.stderr = log.with_name(f"{log.name}-{name}.err")
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, in order
            )
        self.pid = self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def output(self) -> str:
        """Standard output so far."""
        return self.stdout.read_text(errors="replace")

    def errors(self) -> str:
        """Standard error so far."""
        return self.stderr.read_text(errors="replace")

    def tail(self) -> str:
        """The last lines of both, for a message."""
        lines = (self.output() + self.errors()).splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def said(self) -> tuple[int, int]:
        """How much it has printed so far, for `wait_for_line`: characters of output and errors."""
        return len(self.output()), len(self.errors())

    def wait_for_line(
        self, text: str, timeout: float = DEADLINE_S, *, since: tuple[int, int] = (0, 0)
    ) -> str:
        """The first complete line of output or errors with `text` in it, behind what it had `said`.

        TimeoutError if it does not come in time, RuntimeError if the program ends without it;
        both quote what was printed.
        """
        out, err = since
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running  # asked first: what it printed last is then in the files
            for printed in (self.output()[out:], self.errors()[err:]):
                for line in printed.splitlines(keepends=True):
                    if text in line and line.endswith("\n"):
                        return line.rstrip("\n")
            if ended:
                code = self._popen.returncode
                raise RuntimeError(f"{self.name} ended with {code} before '{text}':\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: no '{text}' in {timeout} s:\n{self.tail()}")
            time.sleep(POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._popen.send_signal(number)

    def wait(self, timeout: float = DEADLINE_S) -> int:
        """The exit code (negative: the signal it died of); subprocess.TimeoutExpired if late."""
        return self._popen.wait(timeout)

    def stop(self, timeout: float = DEADLINE_S) -> int:
        """Asks it to end (SIGTERM), insists after `timeout` (SIGKILL), and returns its code."""
        if self.running:
            self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait(timeout)
