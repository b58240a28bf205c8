"""The partner, the probe and the nameserver tell what they saw, in both families."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_router.lab import probe
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.spec import Family
from egress_router.lab.world import Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

ECHO = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), 5) as sock:
    sock.sendall(b"x" * 300000)
    sock.shutdown(socket.SHUT_WR)
    data = b"".join(iter(lambda: sock.recv(65536), b""))
print(len(data.partition(b"\\n")[2]))
"""


def test_partner_answers_from_every_address(lab: MakeLab) -> None:
    """Each of the partner's addresses answers by itself, TCP and UDP, in both families."""
    world = lab()
    world.start_partner(tcp=(80,), udp=(80,))
    for pair in ADDRESSES.partners:
        for version in (4, 6):
            for protocol in ("tcp", "udp"):
                seen = world.ask("node", protocol, pair.of(version), 80, source_port=4000)
                assert (seen.protocol, seen.local, seen.local_port) == (
                    protocol,
                    pair.of(version),
                    80,
                )
                assert (seen.source, seen.source_port) == (ADDRESSES.node.of(version), 4000)


def test_partner_echoes_until_the_end(lab: MakeLab) -> None:
    """What is sent over TCP comes back whole, after our half was closed."""
    world = lab(family=Family.V4)
    world.start_partner(tcp=(80,))
    argv = (sys.executable, "-I", "-S", "-c", ECHO, str(ADDRESSES.partner.v4))
    assert world.run("node", argv).stdout == "300000\n"


def test_probe_names_errors_and_binds(lab: MakeLab) -> None:
    """The probe names what went wrong, and leaves from the source and device it is told."""
    world = lab(family=Family.V4)
    world.start_partner(tcp=(80,))
    partner = ADDRESSES.partner.v4
    assert world.ask("node", "tcp", partner, 81) == "ECONNREFUSED"
    assert world.ask("node", "udp", partner, 81) == "ECONNREFUSED"
    assert world.ask("node", "tcp", partner, 80, source=ADDRESSES.source.v4) == "EADDRNOTAVAIL"
    assert world.ask("client", "tcp", partner, 80, timeout=0.1) == "ETIMEDOUT"
    seen = world.ask("node", "tcp", partner, 80, source=ADDRESSES.node.v4, device="ens4")
    assert seen.source == ADDRESSES.node.v4
    assert isinstance(world.ask("node", "tcp", partner, 80, device="to-dns", timeout=0.1), str)


def test_rate_counts_whole_calls(lab: MakeLab) -> None:
    """The rate is counted in calls that were answered."""
    world = lab(family=Family.V4)
    world.start_partner(tcp=(80,))
    argv = (sys.executable, "-I", "-S", probe.__file__, "tcp", str(ADDRESSES.partner.v4))
    counted = json.loads(world.run("node", (*argv, "80", "--rate", "0.2")).stdout)
    assert counted["connections"] > 0
    assert counted["failed"] == 0
    refused = json.loads(world.run("node", (*argv, "81", "--rate", "0.05")).stdout)
    assert refused["connections"] == 0
    assert refused["failed"] > 0


def test_nameserver(lab: MakeLab, tmp_path: Path) -> None:
    """The pod's nameservers answer from fixed records and from a file that may change."""
    world = lab()
    zone = tmp_path / "zone"
    zone.write_text("file.example.test. 5 IN A 192.0.2.1\n")
    server = world.start_nameserver("fixed.example.test. 5 IN A 192.0.2.7", path=zone)

    def answers(name: str) -> set[tuple[str, ...]]:
        return {(found["rcode"], *found["answers"]) for found in world.lookup("pod", name)}

    assert answers("fixed.example.test.") == {("NOERROR", "192.0.2.7")}
    assert answers("file.example.test.") == {("NOERROR", "192.0.2.1")}
    zone.write_text("file.example.test. 5 IN A 192.0.2.2\n")
    assert answers("file.example.test.") == {("NOERROR", "192.0.2.2")}
    assert answers("other.example.test.") == {("NXDOMAIN",)}
    asked = json.loads(server.output().splitlines()[1])
    assert (asked["client"], asked["name"]) == (str(ADDRESSES.pod.v4), "fixed.example.test.")


def test_nameserver_over_tcp(lab: MakeLab) -> None:
    """A question over TCP gets the whole answer that UDP has to cut."""
    world = lab(family=Family.V4)
    world.start_nameserver(*(f"many.example.test. 5 IN A 192.0.2.{last}" for last in range(200)))
    ask = (
        "import sys; from dnslib import DNSRecord\n"
        "for tcp in (False, True):\n"
        "    answer = DNSRecord.question('many.example.test.').send(sys.argv[1], tcp=tcp)\n"
        "    answer = DNSRecord.parse(answer)\n"
        "    print(len(answer.rr), answer.header.tc)\n"
    )
    done = world.run("pod", (sys.executable, "-c", ask, str(ADDRESSES.dns.v4)))
    assert done.stdout == "0 1\n200 0\n"


def test_unasked_bytes_do_not_end_the_nameserver(lab: MakeLab) -> None:
    """A datagram that is no question is passed over."""
    world = lab(family=Family.V4)
    world.start_nameserver("fixed.example.test. 5 IN A 192.0.2.7")
    send = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for junk in (b'', b'x', b'\\xc0' * 40, bytes(12)): s.sendto(junk, (sys.argv[1], 53))\n"
    )
    world.run("pod", (sys.executable, "-I", "-S", "-c", send, str(ADDRESSES.dns.v4)))
    assert world.lookup("pod", "fixed.example.test.")[0]["answers"] == ["192.0.2.7"]
