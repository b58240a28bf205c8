"""Who used the source address: a line for each connection that the kernel has carried."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.conntrack import expire_flows
from egress_router.kernel.netns import entered
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.world import BARE_PYTHON, Answer
from tests.netns.metrics.conftest import Redirect, lines, scrape, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Redirect]

pytestmark = pytest.mark.netns

POD, CLIENT, SOURCE = ADDRESSES.pod.v4, ADDRESSES.client.v4, ADDRESSES.source.v4
FIRST, SECOND, _, _ = ADDRESSES.partners
RECORDS = "egress_router_connection_records_total"
# So that a closed connection's time is over in a second; it is dropped when somebody looks.
SOON = ("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1")
# Sends one datagram from each of so many ports.
BURST = """
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 10000 + number))
        sock.sendto(b"x", (host, port))
print("sent")
"""


def call(router: Redirect, protocol: str = "tcp", port: int = 80) -> Answer:
    """One call that is answered."""
    seen = router.world.ask("client", protocol, POD, port)
    assert isinstance(seen, Answer), seen
    return seen


def records(
    router: Redirect, count: int, meanwhile: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """The lines, as soon as there are so many."""

    def told() -> list[dict[str, Any]]:
        meanwhile()
        return lines(router.daemon, "nat_forwarded")

    found: list[dict[str, Any]] = wait_for(lambda: len(now := told()) >= count and now)
    assert len(found) == count
    return found


def drop_old(router: Redirect) -> None:
    """Has the kernel drop what is over, as the daemon does every ten seconds."""
    with entered(f"/run/netns/{router.world.namespace('pod')}"):
        expire_flows()


def forget(router: Redirect) -> None:
    """Has the kernel forget every connection now."""
    router.world.run("pod", ("conntrack", "-F"))


def test_a_closed_connection_has_its_line(redirect: Build) -> None:
    """Client, port, server, source, bytes and times, and the wait of the kernel is left out."""
    router = redirect()
    router.start()
    router.world.run("pod", SOON)
    before = datetime.now(UTC)
    seen = call(router, port=8080)
    (line,) = records(router, 1, lambda: drop_old(router))
    assert line["client"].startswith(f"{CLIENT}:")
    assert (line["protocol"], line["port"], line["address"]) == ("tcp", 8080, f"{SECOND.v4}:80")
    assert line["source"] == f"{SOURCE}:{seen.source_port}"
    assert line["answered"] is True
    for way in ("up", "down"):
        assert line[f"packets_{way}"] >= 3
        assert line[f"bytes_{way}"] >= 40 * line[f"packets_{way}"]
    started = datetime.fromisoformat(line["started"])
    assert abs((started - before).total_seconds()) < 5
    assert line["seconds"] <= 1.0
    found = router.scrape()
    assert found.value(RECORDS, outcome="written") == 1


def test_datagrams_have_their_line(redirect: Build) -> None:
    """The same for UDP, answered or not; the pod's own lookups and probes have none."""
    router = redirect()
    router.start()
    call(router, "udp", 5003)
    assert router.world.ask("client", "udp", POD, 8080, timeout=0.2) is not None
    router.world.ask("pod", "udp", ADDRESSES.gateway.v4, 9, timeout=0.1)
    forget(router)
    first, second = sorted(records(router, 2), key=lambda line: line["port"])
    assert (first["protocol"], first["port"], first["packets_down"]) == ("udp", 5003, 1)
    assert (second["port"], second["address"]) == (8080, f"{FIRST.v4}:5000")


def test_sampled(redirect: Build) -> None:
    """One in three has a line; the others are counted."""
    router = redirect()
    router.start(EGRESS_CONNECTION_LOG="sampled:3")
    for _ in range(7):
        call(router)
    forget(router)
    records(router, 3)
    found = wait_for(lambda: (now := router.scrape()).value(RECORDS, outcome="left_out") and now)
    assert found.value(RECORDS, outcome="written") == 3
    assert found.value(RECORDS, outcome="left_out") == 4


def test_off_listens_to_nothing(redirect: Build) -> None:
    """No line, and no socket that the kernel would have to tell."""
    router = redirect()
    router.start(EGRESS_CONNECTION_LOG="off")
    call(router)
    forget(router)
    assert lines(router.daemon, "nat_forwarded") == []
    # Column Groups of the daemon's netfilter sockets: the bit of conntrack's destroy events.
    table = router.world.run("pod", ("cat", "/proc/net/netlink")).stdout.splitlines()[1:]
    netfilter = [row.split() for row in table if row.split()[1] == "12"]
    assert not any(int(row[3], 16) & 0x4 for row in netfilter)


def test_what_is_missing_is_said_once(redirect: Build) -> None:
    """Without privilege there are no lines; without the settings they lack bytes and times."""
    router = redirect()
    world = router.world
    daemon = world.start_router(("redirect",), {}, wrap=UNPRIVILEGED)
    wait_until_ready(world, daemon)
    (line,) = wait_for(lambda: lines(daemon, "connection_log_limited"))
    assert "NET_ADMIN" in line["missing"][0]
    daemon.stop(5)
    names = ("net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_timestamp")
    for name in names:
        world.run("pod", ("sysctl", "-qw", f"{name}=0"))
    router.start()
    (line,) = lines(router.daemon, "connection_log_limited")
    assert line["missing"] == [f"{names[0]}=1, for bytes", f"{names[1]}=1, for times"]
    call(router)
    forget(router)
    (record,) = records(router, 1)
    assert record["client"].startswith(f"{CLIENT}:")
    assert (record["bytes_up"], record["started"], record["seconds"]) == (None, None, None)


def test_init_sets_what_the_lines_need(redirect: Build) -> None:
    """A privileged init turns accounting and timestamps on, in the pod's namespace alone."""
    router = redirect()
    for name in ("nf_conntrack_acct", "nf_conntrack_timestamp"):
        value = router.world.run("pod", ("sysctl", "-n", f"net.netfilter.{name}")).stdout
        assert value.strip() == "1"
    assert (
        router.world.run(
            "node", ("sysctl", "-n", "net.netfilter.nf_conntrack_timestamp")
        ).stdout.strip()
        == "0"
    )


def test_overload_drops_and_counts(redirect: Build) -> None:
    """Fifty thousand ends at once: the daemon goes on, and says how many it has not told."""
    count = 50_000
    router = redirect()
    router.start()
    world = router.world
    burst = (*BARE_PYTHON, "-c", BURST, str(POD), "5000", str(count))
    assert world.run("client", burst, timeout=60).stdout.strip() == "sent"
    # A destination that nobody answers for would do; what matters is that they are tracked.
    tracked = int(world.run("pod", ("conntrack", "-C")).stdout)
    assert tracked > count * 0.9
    forget(router)

    def told() -> float:
        found = scrape(world, "redirect")
        return sum(
            found.value(RECORDS, outcome=outcome) or 0.0
            for outcome in ("written", "over_limit", "lost")
        )

    wait_for(lambda: told() >= count * 0.9)
    found = router.scrape()
    assert (found.value(RECORDS, outcome="written") or 0) > 0
    left = (found.value(RECORDS, outcome="over_limit") or 0) + (
        found.value(RECORDS, outcome="lost") or 0
    )
    assert left > count / 4
    assert (found.value("egress_router_loop_lag_seconds") or 0) < 1.0
    assert world.router(("health", "redirect"), {}).returncode == 0
    call(router)
