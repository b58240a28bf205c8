"""DNS mode with nameservers that are real, hostile or gone, and a partner that is dead."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.world import BARE_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process
    from tests.netns.dns.conftest import Forwarder

    Build = Callable[..., Forwarder]
    Until = Callable[..., float]

pytestmark = pytest.mark.netns

NAME = "www.partner.test"
FIRST, SECOND = (str(pair.v4) for pair in ADDRESSES.partners[:2])
SERVERS = tuple(str(ADDRESSES.dns.of(version)) for version in (4, 6))


def start_dnsmasq(router: Forwarder, *addresses: str) -> Process:
    """Starts Debian's dnsmasq with one name, and a TTL of 5 s."""
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
    options += ["--bind-interfaces", "--user=root", "--local-ttl=5", "--log-facility=-"]
    options += [f"--listen-address={server}" for server in SERVERS]
    options += [f"--host-record={NAME},{address}" for address in addresses]
    return router.lab.start("dns", ("dnsmasq", "--pid-file", *options), name="dnsmasq")


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="Debian package dnsmasq-base")
def test_dnsmasq(forwarder: Build, until: Until) -> None:
    """A real server's answers are followed over its restart with another record."""
    router = forwarder()
    dnsmasq = start_dnsmasq(router, FIRST)
    dnsmasq.wait_for_line("started")
    router.init()
    router.start(f"8080 {NAME} 80\n8081 none.partner.test 80")
    assert router.server(8080) == FIRST
    assert router.server(8081) == "ECONNREFUSED"
    dnsmasq.stop()
    start_dnsmasq(router, SECOND)
    until(lambda: router.server(8080) == SECOND)


def test_junk_takes_nothing_away(forwarder: Build, until: Until) -> None:
    """Pointer loops, lying counts and 64 KB of junk: the last good addresses serve all calls."""
    router = forwarder()
    nameserver = router.serve_names(f"{NAME}. 5 IN A {FIRST}")
    router.init()
    router.start(f"8080 {NAME} 80")
    assert router.server(8080) == FIRST
    nameserver.stop()
    script = str(Path(__file__).with_name("hostile.py"))
    hostile = router.lab.start("dns", (*BARE_PYTHON, script, *SERVERS), name="hostile")
    hostile.wait_for_line("ready")
    until(lambda: router.name(NAME)["state"].startswith("stale"))
    called = router.call(8080, rate=50, seconds=4)
    assert called["errors"] == []
    assert called["servers"] == {FIRST: 200}
    assert not router.lines("loop_error") + router.lines("task_failed")


def test_a_dead_partner_is_tried_once_a_second(forwarder: Build) -> None:
    """However many clients knock, the partner's network sees one attempt a second."""
    router = forwarder(partner=())
    router.init()
    router.start(f"8080 {FIRST} 80")
    attempts = f"dst host {FIRST} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"
    with router.lab.capture("partner", "eth0", attempts) as capture:
        called = router.call(8080, rate=50, seconds=5)
        seen = len(capture.packets())
    assert set(called["errors"]) <= {"ECONNREFUSED", "ECONNRESET"}
    assert len(called["errors"]) == 250
    assert called["errors"].count("ECONNRESET") <= 25, "only until it was known to be dead"
    assert seen <= called["errors"].count("ECONNRESET") + 8
