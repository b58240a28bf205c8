"""Containers that are killed, started again, and stopped."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.world import Answer
from tests.images.callers import RECORDS, finish_calls, start_calls, start_web, status_of
from tests.images.machine import allowed
from tests.images.manifests import read_example
from tests.images.pods import PodWorld, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 50.0  # calls a second: enough to see a gap of a tenth of a second, and no load
SECONDS = 6.0
BACK_S = 1.0
READY_S = 0.5
KILLS = 3  # the best of them counts: one can meet a machine that is busy with something else
GRACE_S = 30  # Kubernetes' own


def kill(pod: PodWorld) -> None:
    """Kills the main container's process, and returns when another one runs in its place."""
    before = pod.state(pod.main)["Pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pod.state(pod.main)["Pid"] not in {0, before}, "new process")


def expect_clean_stop(pod: PodWorld) -> None:
    """The pod ends by itself, within the grace period, with code 0."""
    started = time.monotonic()
    ended = pod.stop(GRACE_S)
    assert ended.code == 0, ended.log
    assert time.monotonic() - started < GRACE_S
    assert '"daemon_stopped"' in ended.log


def expect_quick_starts(pod: PodWorld) -> None:
    """From a process's start until it served took less than half a second."""
    found = re.findall(r'"daemon_started".*"start_s":([0-9.]+)', pod.log(pod.main))
    assert found
    assert min(map(float, found)) < allowed(READY_S), found


def test_redirect(play: Callable[..., PodWorld]) -> None:
    """With the daemon killed, started again and stopped, every call gets through."""
    pod = play(read_example("original/redirect.yaml"))
    pod.lab.start_partner(tcp=(80,))
    pod.start()
    pod.wait_until_ready()
    calls = start_calls(pod.lab, 80, rate=RATE, seconds=SECONDS)
    kill(pod)
    pod.wait_until_ready()
    assert calls.running, "the calls were over too early to tell anything"
    expect_clean_stop(pod)
    outcome = finish_calls(calls)
    expect_quick_starts(pod)
    assert outcome["errors"] == []
    assert outcome["servers"] == {"203.0.113.25": RATE * SECONDS}


def http_answers(pod: PodWorld) -> bool:
    """Whether the proxy serves a request."""
    return status_of(pod.lab, "http://203.0.113.25/") == "200"


def dns_answers(pod: PodWorld) -> bool:
    """Whether a forwarded port leads through."""
    return isinstance(pod.lab.ask("client", "tcp", ADDRESSES.pod.v4, 8080), Answer)


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_proxy(play: Callable[..., PodWorld], mode: str) -> None:
    """A killed proxy serves again within a second of its new start, and stops cleanly."""
    pod = play(read_example(f"original/{mode}.yaml"))
    pod.lab.start_nameserver(*RECORDS)
    if mode == "http":
        start_web(pod.lab)
    else:
        pod.lab.start_partner(tcp=(80, 443))
    answers = http_answers if mode == "http" else dns_answers
    pod.start()
    wait_until(lambda: answers(pod), "first answer")
    took = []
    for _ in range(KILLS):
        kill(pod)
        started = time.monotonic()
        wait_until(lambda: answers(pod), "answer")
        took.append(time.monotonic() - started)
    assert min(took) < allowed(BACK_S), took
    expect_quick_starts(pod)
    expect_clean_stop(pod)
