"""What the kernel has counted, as the redirect daemon tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import expected_calls
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.world import Answer
from egress_router.plan.counting import without_state
from tests.netns.metrics.conftest import Redirect, scrape, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., Redirect]

pytestmark = pytest.mark.netns

CONNECTIONS = "egress_router_redirect_connections_total"
BYTES = "egress_router_redirect_bytes_total"
FIRST, SECOND, THIRD, FALLBACK = ADDRESSES.partners
# The labels of `expected_calls`, in its order: protocol, port; the destination follows.
LABELS = (
    ("tcp", "80", "{first}:80"),
    ("udp", "80", "{second}:80"),
    ("tcp", "8080", "{second}:80"),
    ("udp", "8080", "{first}:5000"),
    ("udp", "5000-5010", "{third_bare}"),
    ("udp", "5000-5010", "{third_bare}"),
    ("tcp", "6000-6005", "{third_bare}"),
    ("any", "any", "{fallback_bare}"),
    ("any", "any", "{fallback_bare}"),
)
FALLBACK_CALLS = 2  # the last ones


def destination(pattern: str, version: int) -> str:
    """How a destination is written in a label."""
    names = {"first": FIRST, "second": SECOND, "third": THIRD, "fallback": FALLBACK}
    bare = {f"{name}_bare": str(pair.of(version)) for name, pair in names.items()}
    hosts = {name: f"[{pair.v6}]" if version == 6 else str(pair.v4) for name, pair in names.items()}
    return pattern.format(**bare, **hosts)


def call_all(router: Redirect, version: int, *, fallback: bool = True) -> None:
    """One call to each form of destination."""
    calls = expected_calls(version)
    for protocol, port, server, _ in calls if fallback else calls[:-FALLBACK_CALLS]:
        seen = router.world.ask("client", protocol, ADDRESSES.pod.of(version), port)
        assert isinstance(seen, Answer), seen
        assert seen.local == server


@pytest.mark.parametrize("fallback", [True, False])
def test_each_destination_is_counted(redirect: Build, *, fallback: bool) -> None:
    """Connections and bytes by port, range and fallback, in both families and directions."""
    router = redirect(fallback=fallback)
    router.start()
    for version in (4, 6):
        call_all(router, version, fallback=fallback)
    found = router.scrape()
    for version in (4, 6):
        for protocol, port, pattern in LABELS if fallback else LABELS[:-FALLBACK_CALLS]:
            labels = {
                "protocol": protocol,
                "port": port,
                "destination": destination(pattern, version),
            }
            calls = sum(
                (p, q, destination(d, version)) == tuple(labels.values()) for p, q, d in LABELS
            )
            assert found.value(CONNECTIONS, **labels) == calls, labels
            for direction in ("sent", "received"):
                # The least that a call is: a datagram of one byte, or a handshake.
                count = found.value(BYTES, **labels, direction=direction)
                assert count is not None
                assert count >= 29 * calls, labels
    total = found.value("egress_router_nat_bytes_total", direction="sent")
    parts = [
        found.value(BYTES, **labels) or 0.0
        for labels in found.series(BYTES)
        if labels["direction"] == "sent"
    ]
    assert total == sum(parts)


@pytest.mark.parametrize("fallback", [True, False])
def test_counting_leaves_the_seal_alone(redirect: Build, *, fallback: bool) -> None:
    """However much has passed, a rerun of init finds nothing to do, and no drift is seen."""
    router = redirect(fallback=fallback)
    router.start(EGRESS_WATCH_SECONDS="0.2")
    table = ("nft", "-s", "list", "table", "inet", "egress_router")
    before = router.world.run("pod", table).stdout
    call_all(router, 4, fallback=fallback)
    after = router.world.run("pod", table).stdout
    assert without_state(after) == before
    assert (after == before) is fallback  # without one, packets make the elements that count them
    first = router.scrape()
    router.init(fallback=fallback, EGRESS_LOG_LEVEL="debug")
    call_all(router, 4, fallback=fallback)
    labels = {"protocol": "tcp", "port": "80", "destination": f"{FIRST.v4}:80"}
    assert first.value(CONNECTIONS, **labels) == 1
    wait_for(lambda: router.scrape().value(CONNECTIONS, **labels) == 2)  # a reading may be older
    assert "drift_found" not in router.daemon.output()


def test_ten_thousand_destinations_are_a_bounded_scrape(redirect: Build, tmp_path: Path) -> None:
    """A thousand destinations have series of their own; the rest is in `other`, nothing is lost."""
    path = tmp_path / "destinations"
    path.write_text("".join(f"{10_000 + n} tcp {FIRST.v4} 80\n" for n in range(10_000)))
    router = redirect(EGRESS_DESTINATION=None, EGRESS_DESTINATION_FILE=str(path))
    router.start()
    for port in (10_000, 19_999):
        assert isinstance(router.world.ask("client", "tcp", ADDRESSES.pod.v4, port), Answer)
    found = router.scrape()
    own = {"protocol": "tcp", "port": "10000", "destination": f"{FIRST.v4}:80"}
    other = dict.fromkeys(own, "other")
    assert found.value(CONNECTIONS, **own) == 1
    assert found.value(CONNECTIONS, **other) == 1
    assert len(found.series(CONNECTIONS)) == 1001
    assert len(found.series(BYTES)) == 2002


def test_what_is_dropped_has_its_reason(redirect: Build) -> None:
    """A knock from outside, and a stranger's packets to be routed, are told apart."""
    router = redirect()
    router.start()
    world = router.world
    world.ask("outsider", "tcp", ADDRESSES.source.v4, 80, timeout=0.5)
    hop = str(ADDRESSES.source.v4)
    world.run("outsider", ("ip", "route", "add", str(ADDRESSES.cluster_network.v4), "via", hop))
    world.ask("outsider", "tcp", ADDRESSES.client.v4, 80, timeout=0.5)
    found = router.scrape()
    drops = "egress_router_dropped_packets_total"
    assert (found.value(drops, reason="input") or 0) >= 1
    assert (found.value(drops, reason="forward") or 0) >= 1
    assert found.value(drops, reason="source") == 0
    assert found.value(drops, reason="conntrack_full") == 0


def test_link_and_gateway(redirect: Build) -> None:
    """The egress link's state and the gateway's, and what passed the link."""
    router = redirect()
    router.start()
    world, gateway = router.world, str(ADDRESSES.gateway.v4)
    assert isinstance(world.ask("client", "tcp", ADDRESSES.pod.v4, 80), Answer)
    found = router.scrape()
    assert found.value("egress_router_link_up") == 1
    state = "egress_router_gateway_state"
    assert found.value(state, gateway=gateway, state="known") == 1
    assert found.value(state, gateway=gateway, state="failed") == 0
    sent = found.value("egress_router_link_packets_total", direction="sent")
    assert sent is not None
    assert sent >= 3
    world.run("lan", ("ip", "link", "set", "node", "down"))
    wait_for(lambda: router.scrape().value("egress_router_link_up") == 0)


def test_without_privilege_the_rest_is_told(redirect: Build) -> None:
    """Link, gateway and conntrack need no capability; what the table counts does, and is absent."""
    router = redirect()
    daemon = router.world.start_router(("redirect",), {}, wrap=UNPRIVILEGED)
    wait_until_ready(router.world, daemon)
    assert isinstance(router.world.ask("client", "tcp", ADDRESSES.pod.v4, 80), Answer)
    found = scrape(router.world, "redirect")
    entries = found.value("egress_router_conntrack_entries")
    limit = found.value("egress_router_conntrack_limit")
    assert entries is not None
    assert limit is not None
    assert 1 <= entries < limit
    assert found.value("egress_router_link_up") == 1
    assert found.series(CONNECTIONS) == []
    assert found.value("egress_router_nat_bytes_total", direction="sent") is None
