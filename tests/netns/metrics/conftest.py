"""Routers in a lab, and what their daemons tell a scraper."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from egress_router.kernel.netns import entered
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.runner import wait_until_ready
from egress_router.service.client import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process
    from egress_router.lab.world import Lab

DEADLINE_S = 40.0  # on a busy machine; a second is usual
POLL_S = 0.05


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None if it is not there."""
        return self._samples.get((name, frozenset(labels.items())))

    def series(self, name: str) -> list[dict[str, str]]:
        """The labels of all samples of that name."""
        return [dict(labels) for found, labels in self._samples if found == name]


def scrape(world: Lab, mode: str) -> Scraped:
    """What /metrics of a daemon answers now."""
    with entered(f"/run/netns/{world.namespace('pod')}"):
        status, body = ask(mode, "/metrics", DEADLINE_S)
    assert status == 200
    return Scraped(body.decode())


def wait_for(what: Callable[[], Any]) -> Any:
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not so after {DEADLINE_S} s"
        time.sleep(POLL_S)  # between two looks; what is waited for has no other sign
    return answer


def lines(process: Process, event: str) -> list[dict[str, Any]]:
    """A daemon's log lines of one event so far."""
    whole = process.output().rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]


class Redirect:
    """A pod in redirect mode whose daemon may read what the kernel counts."""

    def __init__(self, world: Lab) -> None:
        self.world = world

    @property
    def daemon(self) -> Process:
        return self.world.process("redirect")

    def init(self, *, fallback: bool = True, **changes: str | None) -> None:
        """Sets the pod up."""
        environment = router_environment(
            self.world.spec, fallback=fallback, EGRESS_CONFLICT="takeover", **changes
        )
        self.world.router(("init",), environment)

    def start(self, **variables: str) -> None:
        """Starts the daemon with all privileges and returns when it is ready."""
        wait_until_ready(self.world, self.world.start_router(("redirect",), variables))

    def scrape(self) -> Scraped:
        """What the daemon tells now."""
        return scrape(self.world, "redirect")


@pytest.fixture
def redirect(lab: Callable[..., Lab]) -> Callable[..., Redirect]:
    """Builds a pod that is set up, with a partner: `redirect(EGRESS_DESTINATION="80 tcp …")`."""

    def build(*, fallback: bool = True, **changes: str | None) -> Redirect:
        world = lab(pod_sysctls=(("net.ipv6.conf.default.accept_dad", "0"),))
        world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
        router = Redirect(world)
        router.init(fallback=fallback, **changes)
        return router

    return build
