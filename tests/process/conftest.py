"""Starts a tiny mode as a real daemon: a process of its own, found by a real entry point."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.service.events import EVENTS, RESERVED

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DEADLINE_S = 10.0
FIELDS = {event.name: frozenset(event.fields) | RESERVED for event in EVENTS}


class Daemon:
    """One started daemon: its log lines as they come, its admin socket, its end."""

    def __init__(self, command: list[str], mode: str, environment: dict[str, str]) -> None:
        self.mode = mode
        self.lines: list[dict[str, Any]] = []
        self._incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0 if "TINY_GROUP" in environment else None,
        )

    def follow(self) -> None:
        """Reads stdout from now on, in a thread."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._incoming.put(line)

    def wait_event(self, name: str) -> dict[str, Any]:
        """The next line with that event; fails after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                line = json.loads(self._incoming.get(timeout=left))
                self.lines.append(line)
                if line["event"] == name:
                    return line
        pytest.fail(f"no {name} within {DEADLINE_S} s; got {self.lines}; {self._stderr()}")

    def wait_end(self, within_s: float = DEADLINE_S) -> int:
        """The exit code; collects the rest of the log, which must be all the process printed."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"alive after {within_s} s; got {self.lines}")
        if self._reader is not None:
            self._reader.join(DEADLINE_S)
            while not self._incoming.empty():
                self.lines.append(json.loads(self._incoming.get()))
        assert self._stderr() == "", "a daemon prints nothing but its log"
        for line in self.lines:
            assert set(line) <= FIELDS[line["event"]], "fields are declared in the table"
        return code

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        self.process.send_signal(number)

    def ask(self, path: str, *, method: str = "GET", accept: str = "*/*") -> tuple[int, str, str]:
        """Status, head and body of an answer on the abstract socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            # The kernel's timeout: Python's makes connect(2) fail while the backlog is full.
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(DEADLINE_S), 0)
            )
            connection.connect(f"\0egress-router/{self.mode}")
            connection.settimeout(DEADLINE_S)
            return exchange(connection, path, method=method, accept=accept)

    def events(self) -> list[str]:
        """The names of all events so far."""
        return [line["event"] for line in self.lines]

    def _stderr(self) -> str:
        assert self.process.stderr is not None
        if self.process.poll() is None:
            return ""
        return self.process.stderr.read().decode()

    def kill(self) -> None:
        """Ends the process for good."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def exchange(
    connection: socket.socket, path: str, *, method: str = "GET", accept: str = "*/*"
) -> tuple[int, str, str]:
    """Asks on an open connection and reads the answer to its end."""
    connection.sendall(f"{method} {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body.decode()


@pytest.fixture(scope="session")
def exchange_on() -> Callable[..., tuple[int, str, str]]:
    """The plain exchange, for connections a test opens itself."""
    return exchange


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a distribution that offers the tiny mode, and the mode's unique name."""
    folder = tmp_path_factory.mktemp("tiny")
    name = f"tiny-{uuid.uuid4().hex[:8]}"  # other runs may share this network namespace
    source = Path(__file__).with_name("tiny_mode.py").read_text(encoding="utf-8")
    (folder / "tiny_mode.py").write_text(source, encoding="utf-8")
    metadata = folder / "tiny-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        f"[egress_router.modes]\n{name} = tiny_mode:TinyMode\n{name}-b = tiny_mode:TinyMode\n"
    )
    return folder, name


@pytest.fixture(scope="session")
def tiny_environment(tiny: tuple[Path, str]) -> dict[str, str]:
    """The environment in which the tiny mode is found."""
    folder, _ = tiny
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{folder}",
        "EGRESS_WORKERS": "1",
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
    }


@pytest.fixture(scope="session")
def tiny_command() -> list[str]:
    """What starts the tiny mode."""
    code = (
        "import os, sys\n"
        "from egress_router.service import signals\n"
        "signals.install_early_handlers()\n"
        "from egress_router.config.settings import Environment\n"
        "from egress_router.modes import run_mode\n"
        "sys.exit(run_mode(os.environ['TINY_NAME'], Environment(variables=dict(os.environ))))\n"
    )
    return [sys.executable, "-c", code]


@pytest.fixture(scope="module")
def start_shared(
    tiny: tuple[Path, str], tiny_environment: dict[str, str], tiny_command: list[str]
) -> Iterator[Callable[..., Daemon]]:
    """Starts tiny daemons that live as long as the module; a new start is a new daemon."""
    started: list[Daemon] = []
    yield _launcher(started, tiny[1], tiny_environment, tiny_command)
    for daemon in started:
        daemon.kill()


@pytest.fixture
def start(
    tiny: tuple[Path, str], tiny_environment: dict[str, str], tiny_command: list[str]
) -> Iterator[Callable[..., Daemon]]:
    """Starts a tiny daemon with a behaviour; whatever a test leaves is killed."""
    started: list[Daemon] = []
    yield _launcher(started, tiny[1], tiny_environment, tiny_command)
    for daemon in started:
        daemon.kill()


def _launcher(
    started: list[Daemon], name: str, base: dict[str, str], command: list[str]
) -> Callable[..., Daemon]:
    def launch(
        behaviour: str = "plain",
        *,
        prefix: tuple[str, ...] = (),
        follow: bool = True,
        suffix: str = "",
        **variables: str,
    ) -> Daemon:
        mode = name + suffix
        environment = {**base, "TINY_BEHAVIOUR": behaviour, "TINY_NAME": mode, **variables}
        daemon = Daemon([*prefix, *command], mode, environment)
        started.append(daemon)
        if follow:
            daemon.follow()
        return daemon

    return launch
