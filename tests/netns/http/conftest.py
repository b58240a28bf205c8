"""The proxy as a real process in a world of namespaces, with a byte-exact client and origin."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import time
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.runner import run_init, start_daemon
from egress_router.lab.spec import LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host

DEADLINE_S = 10.0
PORT = 8080
INIT = {
    "EGRESS_ROUTER_MODE": "http-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24,2001:db8:12::99/64",
    "EGRESS_GATEWAY": "192.168.12.1,2001:db8:12::1",
}
# The list of the contract's known answers.
KNOWN_LIST = "!www.example.test\n*.g.test\n!203.0.113.7\n*"
RECORDS = (
    "www.example.test. 60 IN A 203.0.113.10",
    "a.g.test. 60 IN A 203.0.113.10",
    "seven.test. 60 IN A 203.0.113.7",
    "other.test. 60 IN A 203.0.113.10",
    "dual.test. 60 IN A 203.0.113.10",
    "dual.test. 60 IN AAAA 2001:db8:113::10",
    "six.test. 60 IN AAAA 2001:db8:113::10",
    "mixed.test. 60 IN A 203.0.113.7",
    "mixed.test. 60 IN A 203.0.113.10",
    "loop4.test. 60 IN A 127.0.0.1",
    "loop6.test. 60 IN AAAA ::1",
    "metadata.test. 60 IN A 169.254.169.254",
    "mapped.test. 60 IN AAAA ::ffff:a9fe:a9fe",
    "nat64.test. 60 IN AAAA 64:ff9b::7f00:1",
    "pod.test. 60 IN A 10.128.0.5",
    "source.test. 60 IN A 192.168.12.99",
    "half.test. 60 IN A 127.0.0.1",
    "half.test. 60 IN A 203.0.113.10",
)
RESET = struct.pack("ii", 1, 0)


class Peer:
    """One end of a connection whose every byte the test decides; every wait has a deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seen = b""
        self.source: object = None
        sock.settimeout(DEADLINE_S)

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.sock.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """What came up to and with a mark; what came behind it is kept for the next call."""
        while mark not in self.seen:
            data = self.sock.recv(65536)
            assert data, f"ended before {mark!r}: {self.seen!r}"
            self.seen += data
        found, _, self.seen = self.seen.partition(mark)
        return found + mark

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.seen) < count:
            data = self.sock.recv(65536)
            assert data, f"ended after {len(self.seen)} of {count} bytes"
            self.seen += data
        found, self.seen = self.seen[:count], self.seen[count:]
        return found

    def rest(self) -> bytes:
        """All that comes until the other side ends; raises ConnectionResetError on a reset."""
        while data := self.sock.recv(1 << 20):
            self.seen += data
        found, self.seen = self.seen, b""
        return found

    def answer(self) -> tuple[int, str, bytes]:
        """Status, head and body of one answer whose length its head tells."""
        head = self.until(b"\r\n\r\n").decode("latin-1")
        length = next(
            (
                int(line.split(":")[1])
                for line in head.lower().split("\r\n")
                if line.startswith("content-length:")
            ),
            0,
        )
        return int(head.split()[1]), head, self.exactly(length)

    def finish(self) -> None:
        """Ends our half, if the other side has not reset us."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def close(self) -> None:
        """Ends."""
        self.sock.close()

    def ended(self, within_s: float = DEADLINE_S) -> bool:
        """Whether the other side ends, in whatever way, within that time."""
        self.sock.settimeout(within_s)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


class Origin:
    """A listening server of the partner's, whose answers the test writes."""

    def __init__(self, sock: socket.socket, opened: list[socket.socket]) -> None:
        self._sock = sock
        self._opened = opened
        self.port = sock.getsockname()[1]

    def accept(self, within_s: float = DEADLINE_S) -> Peer:
        """The next connection."""
        self._sock.settimeout(within_s)
        connection, address = self._sock.accept()
        self._opened.append(connection)
        peer = Peer(connection)
        peer.source = ip_address(address[0])
        return peer

    def untouched(self) -> bool:
        """Whether nobody has connected."""
        self._sock.settimeout(0)
        try:
            self._sock.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Listens no more."""
        self._sock.close()


@dataclasses.dataclass(kw_only=True)
class Scene:
    """A world in which the proxy runs."""

    lab: Lab
    daemon: Process
    opened: list[socket.socket] = dataclasses.field(default_factory=list)

    def inside(self, host: Host) -> contextlib.AbstractContextManager[int]:
        """This thread is in a host's namespace meanwhile; sockets made there stay there."""
        return entered(f"/run/netns/{self.lab.namespace(host)}")

    def connect(self, *, version: int = 4, host: Host = "client", port: int = PORT) -> Peer:
        """A client's connection to the proxy."""
        with self.inside(host):
            sock = socket.create_connection(
                (str(ADDRESSES.pod.of(version)), port), timeout=DEADLINE_S
            )
        self.opened.append(sock)
        return Peer(sock)

    def origin(self, address: str = "203.0.113.10", port: int = 0) -> Origin:
        """A server in the partner's network."""
        sock = self.origin_socket(address, port)
        sock.listen(64)
        self.opened.append(sock)
        return Origin(sock, self.opened)

    def origin_socket(self, address: str = "203.0.113.10", port: int = 0) -> socket.socket:
        """A bound socket of the partner's, for whoever serves and closes it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside("partner"):
            sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that is being written is not one yet."""
        whole = self.daemon.output().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def decision(self, target: str) -> dict[str, Any]:
        """The last decision line of a target, waited for."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            for line in reversed(self.lines()):
                if line.get("target") == target:
                    return line
            time.sleep(0.01)  # between two looks at a file
        pytest.fail(f"no decision about {target} in the log")

    def tidy(self) -> None:
        """Closes what a test left open."""
        for sock in self.opened:
            sock.close()
        self.opened.clear()


@contextlib.contextmanager
def open_scene(rules: str, records: tuple[str, ...] = RECORDS, **variables: str) -> Iterator[Scene]:
    """A world with nameserver, init and daemon; `variables` are the daemon's."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with Lab(LabSpec()) as lab:
        lab.start_nameserver(*records)
        run_init(lab, INIT)
        environment = {"EGRESS_HTTP_PROXY_DESTINATION": rules, **variables}
        scene = Scene(lab=lab, daemon=start_daemon(lab, "http", environment))
        try:
            yield scene
        finally:
            scene.tidy()


@pytest.fixture(scope="session")
def stage() -> Iterator[Scene]:
    """One world for all tests that leave it as it was: the contract's list, usual limits."""
    with open_scene(KNOWN_LIST) as scene:
        yield scene


@pytest.fixture(scope="session")
def shared_stage() -> Iterator[Scene]:
    """The same, where the daemon is two processes."""
    with open_scene(KNOWN_LIST, EGRESS_WORKERS="2") as scene:
        yield scene


@pytest.fixture
def workers() -> str:
    """How many processes the common world's daemon is; a module's `WORKERS` makes it several."""
    return "1"


@pytest.fixture
def scene(request: pytest.FixtureRequest, workers: str) -> Iterator[Scene]:
    """The common world; at the test's end the daemon still lives and nothing went wrong in it."""
    stage: Scene = request.getfixturevalue("stage" if workers == "1" else "shared_stage")
    before = len(stage.lines())
    yield stage
    stage.tidy()
    assert stage.daemon.running, stage.daemon.tail()
    broken = [
        line
        for line in stage.lines()[before:]
        if line["event"] in {"handler_failed", "loop_error", "task_failed", "library_message"}
    ]
    assert not broken


@pytest.fixture(scope="session")
def build() -> Any:
    """Opens a world of a test's own, as a context manager: rules, records, variables."""
    return open_scene


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives `request_row` and `response_row` the verdict table's rows; `workers` their count."""
    if "workers" in metafunc.fixturenames and hasattr(metafunc.module, "WORKERS"):
        metafunc.parametrize("workers", metafunc.module.WORKERS)
    table = tomllib.loads(Path(__file__).with_name("verdicts.toml").read_text(encoding="utf-8"))
    for name in ("request", "response"):
        if f"{name}_row" in metafunc.fixturenames:
            rows = table[name]
            ids = [f"{row['row']}-{row['what']}" for row in rows]
            metafunc.parametrize(f"{name}_row", rows, ids=ids)
