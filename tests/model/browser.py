"""A headless Chromium in a network namespace, driven by its own protocol over two pipes.

The DevTools protocol over pipes (`--remote-debugging-pipe`): JSON messages that end in a NUL, on
descriptors 3 and 4. No port, no driver program, and it works across namespaces.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from egress_router.lab.namespaces import inside

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_S = 30.0  # a browser starts slowly on a busy machine
POLL_S = 0.05
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",  # its sandbox refuses root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# The pipes arrive under any number and have to be 3 and 4; dash knows no number beyond 9.
_RENUMBER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for target, number in zip((3, 4), high):
    os.dup2(number, target)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One browser with one page, in a namespace or in the test's own; a context manager.

    `problems`: what its console complained of. `requests`: every address it has asked for.
    """

    def __init__(self, namespace: str | None, folder: Path) -> None:
        command, self._write = os.pipe()
        self._read, answer = os.pipe()
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.problems: list[str] = []
        self.requests: list[str] = []
        chromium = (str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}")
        python = (sys.executable, "-I", "-S", "-c", _RENUMBER)
        argv = (*python, str(command), str(answer), *chromium)
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                argv if namespace is None else inside(namespace, argv),
                env={**os.environ, "HOME": str(folder)},
                pass_fds=(command, answer),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(command)
        os.close(answer)
        self._session: str | None = None

    def __enter__(self) -> Self:
        try:
            target = self._ask("Target.createTarget", url="about:blank")["targetId"]
            attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.tell(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._session = None
            self._send("Browser.close", {})
        os.close(self._write)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE_S)
        os.close(self._read)

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Has the page do something, and returns the answer."""
        return self._ask(method, **parameters)

    def open(self, url: str) -> None:
        """Opens an address."""
        assert "errorText" not in self.tell("Page.navigate", url=url)

    def forget(self) -> None:
        """Leaves the page for an empty one, and what was seen of it."""
        self.open("about:blank")
        self.wait_for("document.readyState === 'complete' && location.href === 'about:blank'")
        self.problems.clear()
        self.requests.clear()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """What a reader of the page sees."""
        return str(self.evaluate("document.body.innerText"))

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + DEADLINE_S
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression}: never; the page says: {self.text()}"
            time.sleep(POLL_S)
        return value

    def wait_for_text(self, words: str) -> None:
        """Returns when the page shows these words."""
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(words)})")

    def look(self, width: int, height: int, scheme: str, path: Path | None = None) -> None:
        """Takes the size of a screen and a colour scheme, and a picture of the whole page."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.tell("Emulation.setEmulatedMedia", features=[feature])
        if path is not None:
            shot = self.tell("Page.captureScreenshot", captureBeyondViewport=True)
            path.write_bytes(base64.b64decode(shot["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        end = time.monotonic() + DEADLINE_S
        while True:
            message = self._receive(end)
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return number

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.problems.append(str(parameters["entry"]))
            case "Runtime.consoleAPICalled":
                self.problems.append(str(parameters["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
