"""The daemon `dns` in a pod: what clients get, and what the partner sees."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import READ_ONLY_SYSCTLS
from egress_router.lab.spec import Family
from egress_router.lab.world import Answer
from tests.netns.metrics.conftest import scrape

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.netns.dns.conftest import Forwarder

    Build = Callable[..., Forwarder]
    Until = Callable[..., float]

pytestmark = pytest.mark.netns

NAME = "www.partner.test"
FIRST, SECOND, THIRD, FOURTH = (str(pair.v4) for pair in ADDRESSES.partners)


def record(address: str, *, ttl: int = 5, name: str = NAME) -> str:
    """A line of a zone."""
    kind = "AAAA" if ":" in address else "A"
    return f"{name}. {ttl} IN {kind} {address}"


def test_the_originals_environment_works_unchanged(forwarder: Build) -> None:
    """Ports 53, 80 and 443 bind without capabilities; the partner sees the source address."""
    router = forwarder()
    router.serve_names(record(FIRST))
    router.init()
    router.start(f"80 {NAME}\n443 203.0.113.11\n53 {NAME} 80\n")
    for port, server, there in ((80, FIRST, 80), (443, SECOND, 443), (53, FIRST, 80)):
        for version in (4, 6):
            answer = router.ask(port, version=version)
            assert isinstance(answer, Answer), answer
            assert answer.source == ADDRESSES.source.v4
            assert (str(answer.local), answer.local_port) == (server, there)
    assert isinstance(router.ask(80, host="pod"), Answer), "a sidecar may call too"
    assert router.lab.ask("outsider", "tcp", ADDRESSES.source.v4, 80, timeout=0.5) == "ETIMEDOUT"
    (line,) = [line for line in router.lines("dns_forwarded") if line["port"] == 443][:1]
    assert line["target"] == "203.0.113.11:443"
    assert line["address"] == "203.0.113.11:443"
    assert line["bytes_down"] > 0


def test_a_low_port_that_is_not_permitted_names_the_sysctl(forwarder: Build) -> None:
    """Where init could not set it, the daemon ends with the sysctl's name in its message."""
    router = forwarder(partner=())
    router.init(
        wrap=READ_ONLY_SYSCTLS, EGRESS_SOURCE="192.168.12.99/24", EGRESS_GATEWAY="192.168.12.1"
    )
    daemon = router.launch("80 203.0.113.10")
    assert daemon.wait() == 4
    (line,) = router.lines("daemon_failed")
    assert "port 80" in line["error"]
    assert "net.ipv4.ip_unprivileged_port_start" in line["error"]


def test_every_address_is_used_in_turn_and_a_change_is_in_use_when_its_ttl_ends(
    forwarder: Build, until: Until
) -> None:
    """A set of addresses grows, moves and shrinks as its record does, within its TTL."""
    router = forwarder()
    router.serve_names(record(FIRST), record(SECOND))
    router.init()
    router.start(f"8080 {NAME} 80")
    seen = [router.server(8080) for _ in range(4)]
    assert seen[0] != seen[1]
    assert seen[:2] == seen[2:]
    router.records(record(FIRST), record(SECOND), record(THIRD))
    took = until(lambda: len(router.name(NAME)["addresses"]) == 3)
    assert took < 5 + 2.5
    assert {router.server(8080) for _ in range(3)} == {FIRST, SECOND, THIRD}
    router.records(record(FOURTH))
    until(lambda: router.name(NAME)["addresses"] == [FOURTH])
    assert {router.server(8080) for _ in range(2)} == {FOURTH}


def test_a_name_that_is_not_known_leaves_the_others_alone(forwarder: Build, until: Until) -> None:
    """Its port refuses until the name is known, and then comes up by itself."""
    router = forwarder()
    router.serve_names(record(FIRST))
    router.init()
    router.start(f"8080 {NAME} 80\n8081 late.partner.test 80")
    assert router.server(8080) == FIRST
    assert router.server(8081) == "ECONNREFUSED"
    assert "late.partner.test" in router.port(8081)["state"]
    router.records(record(FIRST), record(SECOND, name="late.partner.test"))
    until(lambda: router.server(8081) == SECOND)


def test_all_nameservers_dead_at_the_start(forwarder: Build, until: Until) -> None:
    """The daemon waits, not ready, forwards to written addresses, and heals by itself."""
    router = forwarder()
    router.init()
    daemon = router.launch(f"8080 {NAME} 80")
    daemon.wait_for_line('"dns_name_unknown"')
    assert router.server(8080) == "ECONNREFUSED"
    health = router.lab.router(("health",), {}, check=False)
    assert health.returncode == 1
    assert "no destination is known" in health.stdout + health.stderr
    router.serve_names(record(FIRST))
    until(lambda: router.server(8080) == FIRST)
    until(lambda: router.lab.router(("health",), {}, check=False).returncode == 0)


def test_connections_go_on_without_any_nameserver(forwarder: Build, until: Until) -> None:
    """With every nameserver dead all connections reach the last good addresses; status says so."""
    router = forwarder()
    nameserver = router.serve_names(record(FIRST), record(SECOND))
    router.init()
    router.start(f"8080 {NAME} 80")
    nameserver.stop()
    until(lambda: router.name(NAME)["state"].startswith("stale"))
    called = router.call(8080, rate=100, seconds=5)
    assert called["errors"] == []
    assert set(called["servers"]) == {FIRST, SECOND}
    assert router.lines("dns_name_stale")
    router.serve_names(record(THIRD))
    until(lambda: router.server(8080) == THIRD)
    assert router.lines("dns_name_recovered")


def test_one_of_three_partners_flaps(forwarder: Build) -> None:
    """Nearly every connection succeeds at once while one address is dark half of the time."""
    router = forwarder()
    router.serve_names(*(record(address, ttl=60) for address in (FIRST, SECOND, THIRD)))
    router.init()
    router.start(f"8080 {NAME} 80")
    calm = router.call(8080, rate=50, seconds=2)
    lab, seconds = router.lab, 8
    calling = router.calling(8080, 50, seconds)
    lab.run("partner", ("nft", "add table ip flap"))
    lab.run("partner", ("nft", "add chain ip flap in { type filter hook input priority 0; }"))
    ends = time.monotonic() + seconds
    verdicts = ("drop", "reject with tcp reset")
    flaps = 0
    while time.monotonic() < ends:
        rule = f"ip daddr {FIRST} tcp flags syn / syn,ack {verdicts[flaps % 2]}"
        lab.run("partner", ("nft", f"add rule ip flap in {rule}"))
        time.sleep(0.5)  # the fault's own rhythm, nothing is waited for
        lab.run("partner", ("nft", "flush chain ip flap in"))
        time.sleep(0.5)
        flaps += 1
    called = router.called(calling, seconds)
    assert flaps > 3
    assert called["errors"] == []
    assert _percentile(called, 99) - _percentile(calm, 99) < 0.3


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_behind_a_port_means_a_refusal(
    forwarder: Build, until: Until, workers: int
) -> None:
    """When no address answers the port closes; it opens within seconds of the partner's return.

    Each process has to find out by itself, and closes it then, the last one for all.
    """
    router = forwarder(partner=())
    router.serve_names(record(FIRST), record(SECOND))
    router.init()
    router.start(f"8080 {NAME} 80", EGRESS_WORKERS=str(workers))
    assert router.server(8080) in {"ECONNRESET", "EPIPE"}, "nobody could know before"
    until(lambda: router.server(8080) == "ECONNREFUSED")
    assert "no partner answers" in router.port(8080)["state"]
    lines = router.lines("dns_failed")
    assert len(lines) == workers
    assert all(line["reason"].count("refused") == 2 for line in lines)
    router.lab.start_partner(tcp=(80,))
    assert until(lambda: router.server(8080) in {FIRST, SECOND}) < 5


def test_with_the_egress_link_down_ports_refuse_and_nothing_leaves(
    forwarder: Build, until: Until
) -> None:
    """No packet for the outside leaves by the cluster link; another init brings the ports back."""
    router = forwarder()
    router.init()
    router.start(f"8080 {FIRST} 80\n8081 2001:db8:113::10 80")
    assert router.server(8080) == FIRST
    outside = f"dst net {ADDRESSES.partner_network.v4} or dst net {ADDRESSES.partner_network.v6}"
    with router.lab.capture("pod", "eth0", outside) as capture:
        router.lab.run("pod", ("ip", "link", "set", "macvlan0", "down"))
        until(lambda: router.server(8080) == "ECONNREFUSED", limit_s=5)
        assert router.server(8081, version=6) == "ECONNREFUSED"
        assert capture.packets() == ()
    assert "macvlan0 is down" in router.port(8080)["state"]
    router.init()
    until(lambda: router.server(8080) == FIRST)
    assert router.server(8081, version=6) == "2001:db8:113::10"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "192.168.12.99", "10.128.0.5", "::1", "fe80::1"]
)
def test_an_answer_that_points_at_ourselves_is_dropped(forwarder: Build, address: str) -> None:
    """Loopback, link-local and own addresses are not dialled; other addresses of an answer are."""
    router = forwarder()
    router.serve_names(
        record(address), record(FIRST, name="both.test"), record(address, name="both.test")
    )
    router.init()
    router.start(f"8080 {NAME} 80\n8081 both.test 80\n8082 {FIRST} 80")
    assert router.server(8080) == "ECONNREFUSED"
    assert address in router.port(8080)["state"]
    assert {router.server(8081) for _ in range(2)} == {FIRST}


def test_a_name_with_addresses_of_both_families_prefers_ipv4(
    forwarder: Build, until: Until
) -> None:
    """AAAA is used where it is all there is, and behind A where no A answers."""
    router = forwarder()
    six = str(ADDRESSES.partner.v6)
    router.serve_names(record(FIRST), record(six), record(six, name="six.test"))
    router.init()
    router.start(f"8080 {NAME} 80\n8081 six.test 80")
    assert {router.server(8080) for _ in range(4)} == {FIRST}
    answer = router.ask(8081)
    assert answer.source == ADDRESSES.source.v6
    router.lab.run("partner", ("nft", "add table ip dead"))
    router.lab.run(
        "partner",
        ("nft", "add chain ip dead in { type filter hook input priority 0; policy drop; }"),
    )
    assert router.server(8080) == six


def test_ipv6_is_not_used_without_an_ipv6_source(forwarder: Build) -> None:
    """A router with an IPv4 source alone asks for A alone, and refuses an IPv6 destination."""
    router = forwarder(family=Family.V4)
    nameserver = router.serve_names(record(FIRST), record("2001:db8:113::10"))
    router.init(EGRESS_SOURCE="192.168.12.99/24", EGRESS_GATEWAY="192.168.12.1")
    router.start(f"8080 {NAME} 80\n8081 2001:db8::1 80")
    assert router.server(8080) == FIRST
    assert "AAAA" not in nameserver.output()
    assert "no IPv6 source" in router.port(8081)["state"]


def test_a_drain_lets_what_is_open_end(forwarder: Build, until: Until) -> None:
    """After SIGTERM: not ready, new ones for two seconds, then refused; what is open goes on."""
    router = forwarder()
    router.init()
    daemon = router.start(f"8080 {FIRST} 80")
    argv = ("python3", "-I", "-S", "-c", HOLD, str(ADDRESSES.pod.v4), "8080", "5")
    holder = router.lab.start("client", argv, name="holder")
    holder.wait_for_line("held")
    daemon.signal(signal.SIGTERM)
    started = time.monotonic()
    daemon.wait_for_line('"daemon_stopping"')
    assert router.lab.router(("health",), {}, check=False).returncode == 1
    assert router.server(8080) == FIRST
    until(lambda: router.server(8080) == "ECONNREFUSED")
    assert time.monotonic() - started > 1.5
    assert holder.wait() == 0, holder.tail()
    assert daemon.wait() == 0
    assert [line["reason"] for line in router.lines("dns_forwarded")][-1] == "closed"


def test_a_second_signal_cuts(forwarder: Build) -> None:
    """The second SIGTERM ends open connections with a reset, each with its line; exit code 0."""
    router = forwarder()
    router.init()
    daemon = router.start(f"8080 {FIRST} 80")
    argv = ("python3", "-I", "-S", "-c", HOLD, str(ADDRESSES.pod.v4), "8080", "20")
    holder = router.lab.start("client", argv, name="holder")
    holder.wait_for_line("held")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_line('"daemon_stopping"')
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(3) == 0
    assert [line["reason"] for line in router.lines("dns_forwarded")] == ["cut"]
    assert holder.wait() == 104, "ECONNRESET"


def test_the_limit_resets_one_too_many(forwarder: Build, until: Until) -> None:
    """A connection above the limit is reset and logged; a place that is given back is taken."""
    router = forwarder()
    router.init()
    router.start(f"8080 {FIRST} 80", EGRESS_DNS_PROXY_CONNECTION_LIMIT="1")
    argv = ("python3", "-I", "-S", "-c", HOLD, str(ADDRESSES.pod.v4), "8080", "2")
    holder = router.lab.start("client", argv, name="holder")
    holder.wait_for_line("held")
    assert router.server(8080) == "ECONNRESET"
    until(lambda: router.lines("dns_refused"))
    assert holder.wait() == 0
    until(lambda: router.server(8080) == FIRST)


def test_an_idle_connection_ends(forwarder: Build) -> None:
    """A connection in which no byte moves for EGRESS_DNS_PROXY_IDLE_SECONDS is closed."""
    router = forwarder()
    router.init()
    router.start(f"8080 {FIRST} 80", EGRESS_DNS_PROXY_IDLE_SECONDS="1")
    argv = ("python3", "-I", "-S", "-c", HOLD, str(ADDRESSES.pod.v4), "8080", "20", "silent")
    holder = router.lab.start("client", argv, name="holder")
    started = time.monotonic()
    assert holder.wait(10) == 9, holder.tail()
    assert 1 <= time.monotonic() - started < 9
    assert [line["reason"] for line in router.lines("dns_forwarded")] == ["idle"]


def test_host_aliases_win_over_dns(forwarder: Build) -> None:
    """A name in the pod's /etc/hosts is not asked for."""
    router = forwarder(pod_hosts=f"{SECOND} {NAME}\n")
    router.serve_names(record(FIRST))
    router.init()
    router.start(f"8080 {NAME} 80")
    assert router.server(8080) == SECOND


def test_metrics_tell_of_ports_and_names(forwarder: Build) -> None:
    """Each port and each name has its series."""
    router = forwarder()
    router.serve_names(record(FIRST))
    router.init()
    router.start(f"8080 {NAME} 80\n8081 nope.test 80", EGRESS_ADMIN_PORT="9100")
    router.server(8080)
    fetch = "import urllib.request as u;print(u.urlopen('http://10.128.0.5:9100/metrics').read().decode())"
    text = router.lab.run("client", ("python3", "-I", "-c", fetch)).stdout
    for line in (
        'egress_router_dns_port_open{port="8080"} 1.0',
        'egress_router_dns_port_open{port="8081"} 0.0',
        f'egress_router_dns_name_state{{destination="{NAME}",state="fresh"}} 1.0',
        'egress_router_dns_name_state{destination="nope.test",state="waiting"} 1.0',
        f'egress_router_dns_name_addresses{{destination="{NAME}"}} 1.0',
        'egress_router_dns_connections_total{port="8080",verdict="forwarded"} 1.0',
    ):
        assert line in text


def test_bytes_of_an_open_connection_are_told(forwarder: Build, until: Until) -> None:
    """A session of hours shows as it goes, and its bytes are counted once."""
    router = forwarder()
    router.init()
    router.start(f"8080 {FIRST} 80")
    argv = ("python3", "-I", "-S", "-c", HOLD, str(ADDRESSES.pod.v4), "8080", "3")
    holder = router.lab.start("client", argv, name="holder")
    holder.wait_for_line("held")

    def passed() -> float:
        found = scrape(router.lab, "dns")
        return found.value("egress_router_dns_bytes_total", port="8080", direction="up") or 0.0

    until(lambda: passed() >= 2)
    assert router.lines("dns_forwarded") == []
    assert holder.wait() == 0
    until(lambda: router.lines("dns_forwarded"))
    (line,) = router.lines("dns_forwarded")
    assert passed() == line["bytes_up"]


# Connects, reads the partner's line, then sends a byte each 0.2 s (unless silent) for some seconds,
# ends its half and reads to the end. Exit code 0; 9 if the other end ended first; else the errno.
HOLD = """
import socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
sock = socket.create_connection((host, port))
sock.settimeout(seconds + 5)
sock.recv(4096)
print("held", flush=True)
ends = time.monotonic() + seconds
try:
    while time.monotonic() < ends:
        if len(sys.argv) > 4:
            if not sock.recv(1):
                sys.exit(9)
            continue
        sock.sendall(b"x")
        if not sock.recv(1):
            sys.exit(9)
        time.sleep(0.2)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(100):
        pass
except OSError as error:
    sys.exit(error.errno)
"""


def _percentile(called: dict[str, Any], percent: float) -> float:
    ordered = sorted(called["latencies"])
    return ordered[int(len(ordered) * percent / 100)]
