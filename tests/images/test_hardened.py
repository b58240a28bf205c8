"""The pods with the least privileges: what their containers may do, and that they do their work.

One pod for each mode, with a user nobody has heard of; the tests leave it as they found it.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.images.callers import (
    FORWARDED,
    RECORDS,
    REDIRECTED,
    expect_proxied,
    expect_reached,
    start_web,
)
from tests.images.manifests import Document, changed, read_example

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.images.pods import PodWorld

UIDS = range(100_000, 2**31)  # what OpenShift draws from, and beyond
WRITE = "open('/usr/local/lib/x', 'w')"
# Below the route to the gateway; that it is missing is noticed, and harms nobody.
LAST_ROUTE = ("unreachable", "default", "metric", "4294967295", "proto", "86")


def redirects(pod: PodWorld) -> None:
    """Each port leads to its destination."""
    expect_reached(pod.lab, {port: REDIRECTED[port] for port in (80, 8080, 7777)})


def proxies(pod: PodWorld) -> None:
    """Pages are fetched, plain and by CONNECT."""
    expect_proxied(pod.lab, "http://api.example.com/")
    expect_proxied(pod.lab, "https://api.example.com/")


def forwards(pod: PodWorld) -> None:
    """Each port leads to its address or name."""
    expect_reached(pod.lab, FORWARDED)


MODES = {
    "redirect": ("redirect-reduced.yaml", redirects),
    "http": ("http.yaml", proxies),
    "dns": ("dns.yaml", forwards),
}


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each mode, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def pod(mode: str, module_play: Callable[..., PodWorld]) -> PodWorld:
    """The mode's pod, ready."""
    example, _ = MODES[mode]

    def draw(document: Document) -> None:
        container = document["spec"]["containers"][0]
        container["securityContext"]["runAsUser"] = secrets.choice(UIDS)

    pod = module_play(changed(read_example(example), draw))
    pod.lab.start_nameserver(*RECORDS)
    if mode == "http":
        start_web(pod.lab)
    else:
        pod.lab.start_partner(tcp=(80, 443, 7777))
    pod.start()
    pod.wait_until_ready()
    return pod


def test_it_works(mode: str, pod: PodWorld) -> None:
    """Init with NET_ADMIN and NET_RAW alone, and a daemon with nothing, do all of it."""
    _, works = MODES[mode]
    works(pod)


def test_daemon_has_nothing(pod: PodWorld) -> None:
    """Any uid, no capability, no way to get one, a root that cannot be written."""
    status = Path(f"/proc/{pod.state(pod.main)['Pid']}/status").read_text(encoding="ascii")
    facts = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    assert int(facts["Uid"].split()[0]) in UIDS
    assert len(set(facts["Uid"].split())) == 1
    for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        assert int(facts[kind], 16) == 0, kind
    assert facts["NoNewPrivs"] == "1"
    written = pod.execute("/usr/bin/python3", "-c", WRITE, check=False)
    assert "Read-only file system" in written.stderr


def test_probe_needs_no_shell(pod: PodWorld) -> None:
    """The exec probe says why a daemon is not ready; there is no shell it could have used."""
    assert pod.execute("sh", "-c", "true", check=False).returncode == 127
    pod.lab.run("pod", ("ip", "route", "del", *LAST_ROUTE))
    try:
        done = pod.wait_until_not_ready()
        assert done.returncode == 1
        assert "unreachable" in done.stderr
    finally:
        pod.lab.run("pod", ("ip", "route", "add", *LAST_ROUTE))
        pod.wait_until_ready()
