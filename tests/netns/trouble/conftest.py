"""Router pods that somebody has broken in a known way, each mode's with its real daemon."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.scenario import load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from egress_router.lab.process import Process
    from egress_router.lab.world import Lab

DEADLINE_S = 15.0
NET_RAW = ("setpriv", "--bounding-set=-all,+net_raw")
WRONG_GATEWAYS = "192.168.12.250,2001:db8:12::250"


@dataclass(slots=True, kw_only=True)
class Patient:
    """One pod: its world, its mode, its daemon."""

    lab: Lab
    mode: str
    daemon: Process
    environment: Mapping[str, str]

    def status(self, *options: str) -> str:
        """The table, as a user of the pod sees it."""
        return self.ask("status", *options).stdout

    def status_until(self, accept: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The document, once it says what is waited for."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            document: dict[str, Any] = json.loads(self.status("--json"))
            if accept(document):
                return document
            assert time.monotonic() < deadline, document

    def doctor(self, *options: str, wrap: Sequence[str] = UNPRIVILEGED) -> dict[str, Any]:
        """What the doctor finds, as an object."""
        done = self.ask("doctor", "--json", *options, wrap=wrap)
        assert done.stderr == ""
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        assert report["seconds"] < DEADLINE_S
        return report

    def ask(self, *words: str, wrap: Sequence[str] = UNPRIVILEGED) -> Any:
        """Runs one of the programs as `kubectl exec` into the daemon's container would."""
        return self.lab.router(words, self.environment, wrap=wrap, check=False)

    def run(self, *words: str) -> None:
        """Runs something in the pod, as root."""
        self.lab.run("pod", words)


@pytest.fixture
def patient(lab: Callable[..., Lab]) -> Callable[..., Patient]:
    """Sets a pod up: `patient("dns", wrap=NET_RAW, EGRESS_GATEWAY=…)`; changes are init's."""

    def admit(
        mode: str,
        *,
        wrap: Sequence[str] = UNPRIVILEGED,
        daemon: Mapping[str, str] | None = None,
        ready: bool = True,
        **changes: str,
    ) -> Patient:
        scenario = load_scenario(mode)
        world = lab(scenario.spec)
        scenario.arrange(world)
        run_init(world, {**scenario.environment, "EGRESS_PROBE_SECONDS": "0.1", **changes})
        environment = {**scenario.daemon_environment, **(daemon or {})}
        process = world.start_router((mode,), environment, wrap=wrap)
        if ready:
            wait_until_ready(world, process)
        return Patient(lab=world, mode=mode, daemon=process, environment=environment)

    return admit


def take_address(world: Lab) -> str:
    """Another station takes the source and says so; returns its MAC address."""
    link = json.loads(world.run("outsider", ("ip", "-j", "link", "show", "eth0")).stdout)
    source = str(ADDRESSES.source.v4)
    world.run("outsider", ("ip", "addr", "add", f"{source}/24", "dev", "eth0"))
    world.run("outsider", ("arping", "-q", "-c", "1", "-A", "-I", "eth0", source))
    return str(link[0]["address"])


@pytest.fixture
def taker() -> Callable[[Lab], str]:
    """Takes the address away."""
    return take_address


def failed(report: dict[str, Any]) -> dict[str, str]:
    """What failed, by check: the summaries and all advice."""
    told: dict[str, str] = {}
    for check in report["checks"]:
        if check["status"] == "fail":
            words = [check["summary"]]
            words += [f"{one['cause']} {one['remedy']}" for one in check["advice"]]
            told[check["check"]] = f"{told.get(check['check'], '')} {' '.join(words)}"
    return told


@pytest.fixture
def failures() -> Callable[[dict[str, Any]], dict[str, str]]:
    """Reads the failures of a report."""
    return failed
