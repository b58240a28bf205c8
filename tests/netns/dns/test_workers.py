"""The forwarder as two processes that share its ports: to its clients and its pod it is one."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import INIT_CAPABILITIES
from egress_router.service.client import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.netns.dns.conftest import Forwarder

    Build = Callable[..., Forwarder]
    Until = Callable[..., float]

pytestmark = pytest.mark.netns

NAME = "www.partner.test"
FIRST, SECOND, *_ = (str(pair.v4) for pair in ADDRESSES.partners)
TWO = {"EGRESS_WORKERS": "2"}


def metrics(router: Any) -> str:
    """What a scraper gets."""
    with entered(f"/run/netns/{router.lab.namespace('pod')}"):
        return ask("dns", "/metrics", 10)[1].decode()


def test_two_processes_forward_and_one_answers_for_both(forwarder: Build, until: Until) -> None:
    """Connections are spread over both, and told as one in status, metrics and ids."""
    router = forwarder()
    router.serve_names(f"{NAME}. 60 IN A {FIRST}")
    router.init()
    daemon = router.start(f"8080 {NAME} 80\n8081 {SECOND} 80\n", **TWO)
    until(lambda: router.server(8080) == FIRST)
    outcome = router.call(8080, 100, 1)
    assert outcome["errors"] == []
    assert outcome["calls"] == 100
    until(lambda: len(router.lines("dns_forwarded")) >= 101)
    ids = [line["id"] for line in router.lines("dns_forwarded")]
    total = len(ids)
    assert len(set(ids)) == total
    assert {one.partition("-")[0] for one in ids} == {"0", "1"}
    row = router.port(8080)
    assert (row["forwarded"], row["active"], row["failed"]) == (total, 0, 0)
    line = f'dns_connections_total{{port="8080",verdict="forwarded"}} {float(total)}\n'
    assert line in metrics(router)
    assert [one["state"] for one in router.status()["workers"]] == ["ok"]
    for event in ("dns_port_opened", "dns_name_changed"):
        told = [str(line) for line in router.lines(event)]
        assert len(told) == len({text.split("'event'")[1] for text in told}), "each once"
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_the_kernel_path_needs_no_help(forwarder: Build) -> None:
    """Where the kernel carries the bytes there is one process, whatever the variable says."""
    router = forwarder()
    router.init()
    variables = {"EGRESS_DNS_PROXY_DATAPATH": "kernel", **TWO}
    router.start(f"8080 {FIRST} 80", wrap=INIT_CAPABILITIES, **variables)
    assert "workers" not in router.status()
    assert router.server(8080) == FIRST
