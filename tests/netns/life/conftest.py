"""One router pod of any mode, its real daemon at work: clients, signals, logs, status."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import router_environment
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host
    from egress_router.lab.world import Lab

DEADLINE_S = 20.0
NAME = "www.partner.test"
SERVER = str(ADDRESSES.partner.v4)
LISTS = {
    "redirect": {"EGRESS_DESTINATION": f"8080 tcp {SERVER} 80\n"},
    "http": {"EGRESS_HTTP_PROXY_DESTINATION": "!denied.test\n*\n"},
    "dns": {"EGRESS_DNS_PROXY_DESTINATION": f"8080 {NAME} 80\n8089 {SERVER} 80\n"},
}
RECORDS = (
    f"{NAME}. 60 IN A {SERVER}",
    f"pod.test. 60 IN A {ADDRESSES.pod.v4}",
    f"source.test. 60 IN A {ADDRESSES.source.v4}",
)
ROUTER_MODES = {"redirect": "init", "http": "http-proxy", "dns": "dns-proxy"}


@dataclass(slots=True, kw_only=True)
class Router:
    """A pod that is set up, and its daemon."""

    lab: Lab
    mode: str
    init: dict[str, str]
    environment: dict[str, str]
    daemon: Process
    opened: list[socket.socket] = field(default_factory=list)

    def connect(self, port: int = 8080, *, host: Host = "client") -> socket.socket:
        """A bare connection to the pod."""
        with entered(f"/run/netns/{self.lab.namespace(host)}"):
            sock = socket.create_connection((str(ADDRESSES.pod.v4), port), timeout=DEADLINE_S)
        self.opened.append(sock)
        return sock

    def tunnel(self, target: str = f"{NAME}:80") -> socket.socket:
        """A connection to the partner by whatever the mode offers; its line has been read."""
        sock = self.connect()
        seen = b""
        if self.mode == "http":
            sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while b"\r\n\r\n" not in seen:
                seen += receive(sock)
            seen = seen.partition(b"\r\n\r\n")[2]
        while not seen.endswith(b"}\n"):
            seen += receive(sock)
        return sock

    def status(self) -> dict[str, Any]:
        """The document of /status."""
        argv = ("status", self.mode, "--json")
        document: dict[str, Any] = json.loads(self.lab.router(argv, {}, wrap=UNPRIVILEGED).stdout)
        return document

    def health(self) -> tuple[int, str]:
        """What a probe would see."""
        done = self.lab.router(("health", self.mode), {}, wrap=UNPRIVILEGED, check=False)
        return done.returncode, done.stderr

    def metrics(self) -> str:
        """The text of /metrics."""
        with entered(f"/run/netns/{self.lab.namespace('pod')}"):
            sock = socket.socket(socket.AF_UNIX)
        with sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(f"\0egress-router/{self.mode}")
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            seen = b""
            while piece := sock.recv(65536):
                seen += piece
        return seen.decode()

    def metric(self, name: str) -> float:
        """One value, by name and labels as they are written."""
        return float(self.metrics().split(f"\n{name} ")[1].split(maxsplit=1)[0])

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The whole log lines of one event so far."""
        whole = self.daemon.output().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]

    def start(self, wrap: Sequence[str] = UNPRIVILEGED, **more: str) -> Process:
        """Starts the daemon, or another one after its end, and waits until it is ready."""
        environment = self.environment | more
        self.daemon = self.lab.start_router((self.mode,), environment, wrap=wrap)
        wait_until_ready(self.lab, self.daemon)
        return self.daemon


def receive(sock: socket.socket) -> bytes:
    """Some bytes; the end is an error."""
    data = sock.recv(65536)
    assert data, "the connection was ended"
    return data


def wait(what: Callable[[], Any], *, limit_s: float = DEADLINE_S) -> float:
    """Asks until the answer is true, and returns the seconds that took."""
    started = time.monotonic()
    while not what():
        took = time.monotonic() - started
        assert took < limit_s, f"not so after {limit_s} s"
        time.sleep(0.01)  # between two questions
    return time.monotonic() - started


@pytest.fixture
def until() -> Callable[..., float]:
    """Waits for something to become true, with a deadline."""
    return wait


@pytest.fixture
def router(lab: Callable[..., Lab]) -> Any:
    """Sets a pod up: `router("http", wrap=…, program=…, EGRESS_DRAIN_SECONDS="5")`."""
    made: list[Router] = []

    def build(
        mode: str,
        *,
        wrap: Sequence[str] = UNPRIVILEGED,
        program: Sequence[str] | None = None,
        partner: bool = True,
        **more: str,
    ) -> Router:
        world = lab(program=program)
        if partner:
            world.start_partner(tcp=(80,))
        world.start_nameserver(*RECORDS)
        changes = {"EGRESS_DESTINATION": None, **LISTS[mode]} if mode == "redirect" else {}
        admin = {k: v for k, v in more.items() if k == "EGRESS_ADMIN_PORT"}
        init = router_environment(
            world.spec,
            EGRESS_CONFLICT="takeover",
            EGRESS_ROUTER_MODE=ROUTER_MODES[mode],
            **{"EGRESS_DESTINATION": None, **changes, **admin},
        )
        world.router(("init",), init)
        environment = {**({} if mode == "redirect" else LISTS[mode]), **more}
        daemon = world.start_router((mode,), environment, wrap=wrap)
        one = Router(lab=world, mode=mode, init=init, environment=environment, daemon=daemon)
        made.append(one)
        wait_until_ready(world, daemon)
        return one

    yield build
    for one in made:
        for sock in one.opened:
            with contextlib.suppress(OSError):
                sock.close()
