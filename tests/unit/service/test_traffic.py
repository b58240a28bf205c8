"""Readings of the counters: on demand, not too often, and never for longer than bearable."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.errors import KernelError
from egress_router.kernel.tracking import Tracking
from egress_router.kernel.traffic import Traffic
from egress_router.plan.counting import Count, DestinationTally, PortTally, Tally
from egress_router.plan.state import Neighbour
from egress_router.service import metrics, traffic
from egress_router.service.metric_registry import Metrics
from egress_router.service.traffic import TrafficReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVER = ip_address("2001:db8::10")
READING = Traffic(
    link_up=True,
    link={"rx_bytes": 7, "tx_bytes": 9, "rx_packets": 1, "tx_packets": 2},
    gateways=(Neighbour(address=ip_address("192.168.12.1"), mac=None, state="failed"),),
    tracking=Tracking(entries=3, limit=10, full=1, failed=0),
    tally=Tally(
        counters={
            "sent": Count(packets=5, bytes=500),
            "received": Count(packets=4, bytes=400),
            "dropped_input": Count(packets=2, bytes=80),
            "fallback4": Count(packets=1, bytes=40),
        },
        destinations=(
            DestinationTally(
                protocol="tcp",
                ports=(80, 80),
                address=SERVER,
                target_port=8080,
                connections=2,
                sent=Count(packets=5, bytes=500),
            ),
            DestinationTally(
                protocol=None, ports=None, address=SERVER, target_port=None, connections=1
            ),
        ),
    ),
    ports={("udp", 53): PortTally(connections=3)},
)


class Kernel:
    """Answers readings, and counts them; `gate` holds them up."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Traffic | Exception | None = READING
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> Traffic | None:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def play(scene: Callable[[Kernel, TrafficReport, Metrics], Awaitable[None]]) -> None:
    """Runs a scene in a loop of its own."""

    async def run() -> None:
        kernel, registry = Kernel(), Metrics()
        service: Any = SimpleNamespace(metrics=registry, provide_reading=lambda _take: None)
        await scene(kernel, TrafficReport(service, kernel.read), registry)

    asyncio.run(run())


def test_nobody_asks_nothing_is_read() -> None:
    """Without a scrape the kernel is left alone, and there is nothing to tell."""

    async def scene(kernel: Kernel, report: TrafficReport, registry: Metrics) -> None:
        assert report.status() == {}
        registry.render("")
        assert kernel.asked == 0

    play(scene)


def test_many_scrapers_share_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come at once wait for the same one; those that come soon after get it."""

    async def scene(kernel: Kernel, report: TrafficReport, _registry: Metrics) -> None:
        await asyncio.gather(*(report.refresh() for _ in range(5)))
        await report.refresh()
        assert kernel.asked == 1
        monkeypatch.setattr(traffic, "AGE_S", 0.0)
        monkeypatch.setattr(traffic, "TIMES", 0)
        report._stale_at = 0.0
        await report.refresh()
        await report.refresh()
        assert kernel.asked == 3

    play(scene)


def test_a_kernel_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is made of the last reading; the one that hangs is not asked for again."""
    monkeypatch.setattr(traffic, "WAIT_S", 0.01)

    async def scene(kernel: Kernel, report: TrafficReport, _registry: Metrics) -> None:
        await report.refresh()
        report._stale_at = 0.0
        kernel.gate.clear()
        await report.refresh()
        await report.refresh()
        assert kernel.asked == 2
        assert report.traffic is READING
        kernel.gate.set()
        await report.refresh()

    play(scene)


@pytest.mark.parametrize(
    "answer", [None, KernelError("read", "refused"), RuntimeError("the thread has ended")]
)
def test_nothing_known_is_nothing_told(answer: Any) -> None:
    """Without a router, or when the kernel refuses, the metrics are absent and not zero."""

    async def scene(kernel: Kernel, report: TrafficReport, registry: Metrics) -> None:
        kernel.answer = answer
        await report.refresh()
        assert report.status() == {}
        text = registry.render("")[0].decode()
        assert not [line for line in text.splitlines() if not line.startswith("#")]

    play(scene)


def test_what_a_reading_becomes() -> None:
    """Every number finds its series."""

    async def scene(_kernel: Kernel, report: TrafficReport, registry: Metrics) -> None:
        await report.refresh()
        told = {metric: read() for metric, read in registry._sources.items()}
        assert told[metrics.LINK_UP] == 1
        assert told[metrics.LINK_BYTES] == {("received",): 7, ("sent",): 9}
        assert told[metrics.GATEWAY_STATE] == {
            ("192.168.12.1", "known"): 0,
            ("192.168.12.1", "asked"): 0,
            ("192.168.12.1", "failed"): 1,
        }
        assert told[metrics.NAT_PACKETS] == {("sent",): 5, ("received",): 4}
        assert told[metrics.DROPS] == {
            ("input",): 2,
            ("conntrack_full",): 1,
            ("conntrack_failed",): 0,
        }
        assert (told[metrics.CONNTRACK_ENTRIES], told[metrics.CONNTRACK_LIMIT]) == (3, 10)
        assert told[metrics.DESTINATION_CONNECTIONS] == {
            ("tcp", "80", "[2001:db8::10]:8080"): 2,
            ("any", "any", "2001:db8::10"): 1,
        }
        bytes_ = told[metrics.DESTINATION_BYTES]
        assert isinstance(bytes_, dict)
        assert bytes_["tcp", "80", "[2001:db8::10]:8080", "sent"] == 500
        assert told[metrics.DNS_KERNEL_CONNECTIONS] == {("udp", "53"): 3}
        document = report.status()
        assert document["nat"].keys() == {"sent", "received", "dropped_input"}
        assert document["destinations"][0]["connections"] == 2

    play(scene)
