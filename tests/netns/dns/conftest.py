"""A router pod in DNS mode, its partner and its nameserver, as the daemon's tests need them."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab import caller
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host

INIT = {
    "EGRESS_ROUTER_MODE": "dns-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24,2001:db8:12::99/64",
    "EGRESS_GATEWAY": "192.168.12.1,2001:db8:12::1",
}
DEADLINE_S = 15.0


class Forwarder:
    """The daemon `dns` in a lab; `zone` holds the records its nameserver answers with."""

    def __init__(self, lab: Lab, zone: Path) -> None:
        self.lab = lab
        self._zone = zone

    @property
    def daemon(self) -> Process:
        return self.lab.process("dns")

    def init(self, *, wrap: Sequence[str] = (), **variables: str) -> None:
        """Sets the pod up for DNS mode."""
        if wrap:
            self.lab.router(("init",), {**INIT, **variables}, wrap=wrap)
        else:
            run_init(self.lab, {**INIT, **variables})

    def launch(
        self, lines: str, *, wrap: Sequence[str] = UNPRIVILEGED, **variables: str
    ) -> Process:
        """Starts the daemon without waiting for it."""
        environment = {"EGRESS_DNS_PROXY_DESTINATION": lines, **variables}
        return self.lab.start_router(("dns",), environment, wrap=wrap)

    def start(self, lines: str, *, wrap: Sequence[str] = UNPRIVILEGED, **variables: str) -> Process:
        """Starts the daemon and returns when it is ready."""
        process = self.launch(lines, wrap=wrap, **variables)
        wait_until_ready(self.lab, process)
        return process

    def records(self, *lines: str) -> None:
        """What the nameserver answers with from now on."""
        new = self._zone.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self._zone)  # the nameserver never reads half of it

    def serve_names(self, *lines: str) -> Process:
        """Starts the nameserver."""
        self.records(*lines)
        return self.lab.start_nameserver(path=self._zone)

    def ask(self, port: int, *, version: int = 4, host: Host = "client", **more: Any) -> Any:
        """One call to a port of the pod; what the partner saw, or the error's name."""
        return self.lab.ask(host, "tcp", ADDRESSES.pod.of(version), port, **more)

    def server(self, port: int, **more: Any) -> str:
        """The partner's address that a call reached, or the error's name."""
        answer = self.ask(port, **more)
        return str(answer.local) if isinstance(answer, Answer) else answer

    def call(self, port: int, rate: float, seconds: float) -> dict[str, Any]:
        """Calls at a steady rate to the end; see `caller`."""
        process = self.calling(port, rate, seconds)
        return self.called(process, seconds)

    def calling(self, port: int, rate: float, seconds: float) -> Process:
        """Begins to call at a steady rate."""
        argv = (
            *BARE_PYTHON,
            caller.__file__,
            str(ADDRESSES.pod.v4),
            str(port),
            str(rate),
            str(seconds),
        )
        return self.lab.start("client", argv, name="caller")

    def called(self, process: Process, seconds: float) -> dict[str, Any]:
        """How the calls of `calling` went."""
        code = process.wait(seconds + DEADLINE_S)
        assert code == 0, process.tail()
        return json.loads(process.output())

    def status(self) -> dict[str, Any]:
        """The document of /status."""
        return json.loads(self.lab.router(("status", "--json"), {}, wrap=UNPRIVILEGED).stdout)

    def port(self, number: int) -> dict[str, Any]:
        """What status says of a port."""
        return next(row for row in self.status()["ports"] if row["port"] == number)

    def name(self, text: str) -> dict[str, Any]:
        """What status says of a name."""
        return next(row for row in self.status()["names"] if row["name"] == text)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The daemon's log lines of one event so far."""
        found = []
        for line in self.daemon.output().splitlines():
            with contextlib.suppress(ValueError):  # the last one may be half written
                found.append(json.loads(line))
        return [line for line in found if line["event"] == event]


def wait_for(what: Callable[[], Any], *, limit_s: float = DEADLINE_S) -> float:
    """Asks until the answer is true, and returns the seconds that took."""
    started = time.monotonic()
    while not what():
        took = time.monotonic() - started
        assert took < limit_s, f"not so after {limit_s} s"
    return time.monotonic() - started


@pytest.fixture
def until() -> Callable[..., float]:
    """Waits for something to become true, with a deadline."""
    return wait_for


@pytest.fixture
def forwarder(lab: Callable[..., Lab], tmp_path: Path) -> Callable[..., Forwarder]:
    """Builds a world for a forwarder, with init done: `forwarder(init={...}, cni=Cni.CALICO)`."""

    def build(*, partner: Sequence[int] = (80, 443), **wanted: Any) -> Forwarder:
        tmp_path.chmod(0o755)
        world = lab(**wanted)
        if partner:
            world.start_partner(tcp=partner)
        return Forwarder(world, tmp_path / "zone")

    return build
