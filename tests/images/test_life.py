"""Containers that are killed, restarted and stopped."""

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.world import Answer
from tests.images.callers import (
    RECORDS,
    expect_proxied,
    finish_calls,
    start_calls,
    start_web,
    status_of,
)
from tests.images.manifests import read_example
from tests.images.pods import PodWorld, wait_until

RATE = 50.0  # calls a second: enough to see a gap of a tenth of a second, and no load
SECONDS = 5.0
BACK_S = 1.0  # on an idle machine; its share of a busy one is smaller
GRACE_S = 30  # Kubernetes' own


def allowed(seconds: float) -> float:
    """So much time on this machine as it is now: its processors are shared by what runs."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def kill(pod: PodWorld) -> None:
    """Kills the main container's process, and returns when another one runs in its place."""
    before = pod.state(pod.main)["Pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pod.state(pod.main)["Pid"] not in {0, before}, "new process")


def test_redirect_never_stops(play: Callable[..., PodWorld]) -> None:
    """With the daemon killed and started again, every call gets through."""
    pod = play(read_example("original/redirect.yaml"))
    pod.lab.start_partner(tcp=(80,))
    pod.start()
    pod.wait_until_ready()
    calls = start_calls(pod.lab, 80, rate=RATE, seconds=SECONDS)
    kill(pod)
    pod.wait_until_ready()
    assert calls.running, "the calls were over too early to tell anything"
    outcome = finish_calls(calls)
    assert outcome["errors"] == []
    assert outcome["servers"] == {"203.0.113.25": RATE * SECONDS}


def http_answers(pod: PodWorld) -> bool:
    """Whether the proxy serves a request."""
    return status_of(pod.lab, "http://203.0.113.25/") == "200"


def dns_answers(pod: PodWorld) -> bool:
    """Whether a forwarded port leads through."""
    return isinstance(pod.lab.ask("client", "tcp", ADDRESSES.pod.v4, 8080), Answer)


@pytest.mark.parametrize(
    ("example", "answers"),
    [("original/http.yaml", http_answers), ("original/dns.yaml", dns_answers)],
)
def test_proxy_is_back(
    play: Callable[..., PodWorld], example: str, answers: Callable[[PodWorld], bool]
) -> None:
    """A killed proxy serves again within a second of its new start."""
    pod = play(read_example(example))
    pod.lab.start_nameserver(*RECORDS)
    start_web(pod.lab)
    pod.start()
    wait_until(lambda: answers(pod), "first answer")
    took = []
    for _ in range(3):
        kill(pod)
        started = time.clock_gettime(time.CLOCK_BOOTTIME)
        wait_until(lambda: answers(pod), "answer")
        took.append(time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    assert min(took) < allowed(BACK_S), took


@pytest.mark.parametrize(
    "example", ["original/redirect.yaml", "original/http.yaml", "original/dns.yaml"]
)
def test_stop(play: Callable[..., PodWorld], example: str) -> None:
    """A pod that is stopped ends by itself, within the grace period, with code 0."""
    pod = play(read_example(example))
    pod.lab.start_nameserver(*RECORDS)
    start_web(pod.lab)
    pod.start()
    pod.wait_until_ready()
    if "http" in example:
        expect_proxied(pod.lab, "http://www.example.com/")
    started = time.monotonic()
    ended = pod.stop(GRACE_S)
    assert ended.code == 0, ended.log
    assert time.monotonic() - started < GRACE_S
    assert '"daemon_stopped"' in ended.log


@pytest.mark.parametrize("example", ["redirect-reduced.yaml", "http.yaml", "dns.yaml"])
def test_start_is_quick(play: Callable[..., PodWorld], example: str) -> None:
    """From the process's start to `daemon_started` it takes less than half a second."""
    pod = play(read_example(example))
    pod.lab.start_nameserver(*RECORDS)
    pod.start()
    pod.wait_until_ready()
    found = re.search(r'"daemon_started".*"start_s":([0-9.]+)', pod.log(pod.main))
    assert found is not None
    assert float(found[1]) < allowed(0.5)
