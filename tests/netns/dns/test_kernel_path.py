"""The kernel's data path of DNS mode: the daemon says where to, the kernel carries."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import INIT_CAPABILITIES
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
KERNEL = {"EGRESS_DNS_PROXY_DATAPATH": "kernel"}


def record(address: str, *, ttl: int = 5, name: str = NAME) -> str:
    """A line of a zone."""
    kind = "AAAA" if ":" in address else "A"
    return f"{name}. {ttl} IN {kind} {address}"


def start(router: Forwarder, lines: str, **variables: str) -> None:
    """Starts the daemon with the capability, and returns when its table is loaded."""
    router.start(lines, wrap=INIT_CAPABILITIES, **{**KERNEL, **variables})
    router.daemon.wait_for_line('"dns_table_loaded"')


def loaded(router: Forwarder, *addresses: str) -> bool:
    """Whether the table holds these addresses and no other of the first three."""
    listing = router.lab.run("pod", ("nft", "list", "table", "inet", "egress_router_dns")).stdout
    return all((address in listing) == (address in addresses) for address in (FIRST, SECOND, THIRD))


def test_the_kernel_spreads_new_connections_with_the_source_address(
    forwarder: Build, until: Until
) -> None:
    """Addresses are used in turn, the partner sees the source; the daemon has no part in it."""
    router = forwarder()
    router.serve_names(record(FIRST), record(SECOND))
    router.init()
    start(router, f"8080 {NAME} 80\n8081 {THIRD} 80")
    until(lambda: loaded(router, FIRST, SECOND, THIRD))
    answers = [router.ask(8080) for _ in range(4)]
    assert all(isinstance(answer, Answer) for answer in answers), answers
    assert {answer.source for answer in answers} == {ADDRESSES.source.v4}
    seen = [str(answer.local) for answer in answers]
    assert seen[0] != seen[1]
    assert seen[:2] == seen[2:]
    assert router.server(8081) == THIRD
    assert router.port(8080)["forwarded"] == 0
    assert not router.lines("drift_found"), "what the daemon itself set up is no drift"
    assert router.lab.ask("outsider", "tcp", ADDRESSES.source.v4, 8080, timeout=0.5) == "ETIMEDOUT"


def test_what_the_kernel_cannot_translate_goes_through_the_daemon(forwarder: Build) -> None:
    """An IPv6 client reaches an IPv4 partner all the same."""
    router = forwarder()
    router.init()
    start(router, f"8080 {FIRST} 80")
    answer = router.ask(8080, version=6)
    assert isinstance(answer, Answer), answer
    assert answer.source == ADDRESSES.source.v4
    assert router.port(8080)["forwarded"] == 1


@pytest.mark.parametrize(("forwarding", "by_daemon"), [("1", 0), ("0", 1)])
def test_ipv6_is_the_kernels_where_it_forwards(
    forwarder: Build, forwarding: str, by_daemon: int
) -> None:
    """With the pod's sysctl the kernel carries IPv6 to IPv6; without it the daemon does."""
    router = forwarder(pod_sysctls=(("net.ipv6.conf.all.forwarding", forwarding),))
    router.init()
    start(router, "8080 2001:db8:113::10 80")
    answer = router.ask(8080, version=6)
    assert isinstance(answer, Answer), answer
    assert answer.source == ADDRESSES.source.v6
    assert router.port(8080)["forwarded"] == by_daemon


def test_open_connections_stay_where_they_are(forwarder: Build, until: Until) -> None:
    """A changed record moves new connections, and no other."""
    router = forwarder()
    router.serve_names(record(FIRST))
    router.init()
    start(router, f"8080 {NAME} 80")
    until(lambda: loaded(router, FIRST))
    argv = ("python3", "-I", "-S", "-c", TALK, str(ADDRESSES.pod.v4), "8080")
    talker = router.lab.start("client", argv, name="talker")
    talker.wait_for_line(FIRST)
    router.records(record(SECOND))
    until(lambda: router.server(8080) == SECOND)
    talker.signal(signal.SIGTERM)
    assert talker.wait() == 0, talker.tail()


def test_an_address_that_fails_its_probe_leaves_the_map(forwarder: Build, until: Until) -> None:
    """Dead addresses get no connections; when all are dead the port refuses, and it heals."""
    router = forwarder(partner=())
    partner = router.lab.start_partner(tcp=(80,))
    router.serve_names(record(FIRST, ttl=300), record(SECOND, ttl=300))
    router.init()
    start(router, f"8080 {NAME} 80", EGRESS_DNS_PROXY_CHECK_SECONDS="0.5")
    until(lambda: loaded(router, FIRST, SECOND))
    lab = router.lab
    lab.run("partner", ("nft", "add table ip dead"))
    lab.run("partner", ("nft", "add chain ip dead in { type filter hook input priority 0; }"))
    rule = f"add rule ip dead in ip daddr {FIRST} tcp dport 80 reject with tcp reset"
    lab.run("partner", ("nft", rule))
    until(lambda: loaded(router, SECOND))
    assert {router.server(8080) for _ in range(4)} == {SECOND}
    lab.run("partner", ("nft", "delete table ip dead"))
    until(lambda: loaded(router, FIRST, SECOND))
    partner.stop()
    until(lambda: loaded(router))
    until(lambda: router.server(8080) == "ECONNREFUSED")
    lab.start_partner(tcp=(80,))
    until(lambda: loaded(router, FIRST, SECOND))


def test_datagrams_are_forwarded(forwarder: Build, until: Until) -> None:
    """A udp port reaches its name's addresses; a flow of one client moves with the record."""
    router = forwarder(partner=())
    router.lab.start_partner(udp=(53,))
    router.serve_names(record(FIRST))
    router.init()
    start(router, f"5353 udp {NAME} 53")
    until(lambda: loaded(router, FIRST))

    def ask() -> str:
        pod = ADDRESSES.pod.v4
        answer = router.lab.ask("client", "udp", pod, 5353, source_port=40000)
        return f"{answer.local} saw {answer.source}" if isinstance(answer, Answer) else answer

    assert ask() == f"{FIRST} saw {ADDRESSES.source.v4}"
    router.records(record(SECOND))
    until(lambda: ask() == f"{SECOND} saw {ADDRESSES.source.v4}")


def test_a_flushed_ruleset_is_loaded_again(forwarder: Build, until: Until) -> None:
    """Whoever flushes nftables interrupts the daemon for seconds, not for good."""
    router = forwarder()
    router.init()
    start(router, f"8080 {FIRST} 80")
    router.lab.run("pod", ("nft", "flush", "ruleset"))
    tables = ("nft", "list", "tables")
    until(lambda: "egress_router_dns" in router.lab.run("pod", tables).stdout)
    until(lambda: router.server(8080) == FIRST)


def test_the_table_goes_with_the_daemon(forwarder: Build, until: Until) -> None:
    """After the end of the daemon new connections are refused, and nothing of its table is left."""
    router = forwarder()
    router.init()
    start(router, f"8080 {FIRST} 80")
    daemon = router.daemon
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert router.server(8080) == "ECONNREFUSED"
    assert "egress_router_dns" not in router.lab.run("pod", ("nft", "list", "ruleset")).stdout


def test_with_the_egress_link_down_nothing_leaves_by_the_cluster(
    forwarder: Build, until: Until
) -> None:
    """The kernel's path fails closed too."""
    router = forwarder()
    router.init()
    start(router, f"8080 {FIRST} 80")
    assert router.server(8080) == FIRST
    outside = f"dst net {ADDRESSES.partner_network.v4}"
    with router.lab.capture("pod", "eth0", outside) as capture:
        router.lab.run("lan", ("ip", "link", "set", "node", "down"))
        until(lambda: isinstance(router.ask(8080, timeout=0.5), str))
        assert capture.packets() == ()
    router.lab.run("lan", ("ip", "link", "set", "node", "up"))
    until(lambda: router.server(8080) == FIRST)


@pytest.mark.parametrize("datapath", ["kernel", "auto"])
def test_without_the_capability(forwarder: Build, datapath: str) -> None:
    """`kernel` ends the daemon with what is missing; `auto` goes on in userspace."""
    router = forwarder()
    router.init()
    daemon = router.launch(f"8080 {FIRST} 80", EGRESS_DNS_PROXY_DATAPATH=datapath)
    if datapath == "kernel":
        assert daemon.wait() == 4
        assert "CAP_NET_ADMIN missing" in router.lines("daemon_failed")[0]["error"]
    else:
        daemon.wait_for_line('"dns_port_opened"')
        assert router.server(8080) == FIRST
        assert router.status()["data_path"] == "userspace"


def test_connections_are_counted_and_logged(forwarder: Build, until: Until) -> None:
    """Each port's connections and bytes, over changes of the table; a line when one has ended."""
    router = forwarder(partner=())
    router.lab.start_partner(tcp=(80,), udp=(53,))
    router.serve_names(record(FIRST))
    router.init()
    start(router, f"8080 {NAME} 80\n5353 udp {NAME} 53")
    until(lambda: loaded(router, FIRST))
    assert router.server(8080) == FIRST
    assert isinstance(router.lab.ask("client", "udp", ADDRESSES.pod.v4, 5353), Answer)
    router.records(record(SECOND))
    until(lambda: router.server(8080) == SECOND)
    calls = 2  # at least: those that were still answered by the first address are counted too
    found = scrape(router.lab, "dns")
    connections = "egress_router_dns_kernel_connections_total"
    assert (found.value(connections, protocol="tcp", port="8080") or 0) >= calls
    assert found.value(connections, protocol="udp", port="5353") == 1
    for direction in ("sent", "received"):
        labels = {"port": "8080", "protocol": "tcp", "direction": direction}
        assert (found.value("egress_router_dns_kernel_bytes_total", **labels) or 0) > 100 * calls
    router.lab.run("pod", ("conntrack", "-F"))
    until(lambda: len(router.lines("nat_forwarded")) > calls)
    lines = {(line["protocol"], line["port"]): line for line in router.lines("nat_forwarded")}
    assert lines["tcp", 8080]["target"] == f"{NAME}:80"
    assert lines["tcp", 8080]["rule"] == 1
    assert lines["tcp", 8080]["source"].startswith(f"{ADDRESSES.source.v4}:")
    assert lines["udp", 5353]["rule"] == 2


# Prints the partner's line, then echoes bytes until SIGTERM; exit code 0 if all of them came back.
TALK = """
import signal, socket, sys, time
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.settimeout(5)
print(sock.recv(4096).decode(), flush=True)
while not ended:
    sock.sendall(b"x")
    if sock.recv(1) != b"x":
        sys.exit(1)
    time.sleep(0.05)
"""
