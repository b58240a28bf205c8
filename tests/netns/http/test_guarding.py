"""Nothing outside the allowed set is dialled, and nothing leaves by the wrong link."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.netns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RULES = "203.0.113.8/30\n203.0.113.25:80-90\nlink.test"


def ask(scene: Any, target: str, *, closes: bool = True) -> tuple[int, str, bytes]:
    """The answer to one plain request on a connection of its own."""
    client = scene.connect()
    close = "Connection: close\r\n" if closes else ""
    client.send(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n{close}\r\n".encode())
    answer: tuple[int, str, bytes] = client.answer()
    client.close()
    return answer


def test_of_a_mixed_answer_only_the_allowed_addresses_are_dialled(build: Any) -> None:
    """203.0.113.9 and .12 under an allow rule for .8/30: only .9 is tried, though it is refused."""
    records = ("mixed.test. 60 IN A 203.0.113.12", "mixed.test. 60 IN A 203.0.113.9")
    with build(RULES, records) as scene:
        origin = scene.origin("203.0.113.12", 80)
        syn = "tcp[tcpflags] & tcp-syn != 0 and dst net 203.0.113.0/24"
        with scene.lab.capture("gw", "eth0", syn) as capture:
            client = scene.connect()
            client.send(b"GET http://mixed.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
            while not any("203.0.113.9.80" in packet for packet in capture.packets()):
                time.sleep(0.05)  # between two looks at the capture
            packets = capture.packets()
            client.close()
        assert origin.untouched()
        assert not [packet for packet in packets if "203.0.113.12" in packet]
        assert all(" 192.168.12.99." in packet for packet in packets)


def test_rebinding_gains_nothing(build: Any, tmp_path: Path) -> None:
    """A name that turns to a forbidden address is refused; no packet goes there."""
    zone = tmp_path / "zone"
    zone.write_text("turn.test. 0 IN A 203.0.113.10\n")
    with build(RULES, ()) as scene:
        scene.lab.process("nameserver").stop()
        scene.lab.start_nameserver(path=zone)
        origin = scene.origin("203.0.113.10")
        target = f"turn.test:{origin.port}"
        client = scene.connect()
        client.send(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        server = origin.accept()
        server.until(b"\r\n\r\n")
        server.send(OK)
        assert client.answer()[0] == 200
        for address in ("203.0.113.25", "127.0.0.1", "10.128.0.5", "169.254.169.254"):
            zone.write_text(f"turn.test. 0 IN A {address}\n")
            outside = f"tcp and (dst host {address} or dst host 203.0.113.25)"
            with scene.lab.capture("gw", "eth0", outside) as capture:
                # The cache keeps a TTL of 0 for the callers that wait, and no longer.
                client.send(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert client.answer()[0] == 403, address
                assert not capture.packets()
        assert origin.untouched()


def test_names_are_resolved_by_the_cluster(scene: Any) -> None:
    """The nameserver sees the pod's cluster address, and the outside sees no DNS."""
    nameserver = scene.lab.process("nameserver")
    before = len(nameserver.output().splitlines())
    with scene.lab.capture("gw", "eth0", "port 53") as capture:
        assert ask(scene, "unheard-of.test")[0] == 502
        assert not capture.packets()
    asked = nameserver.output().splitlines()[before:]
    assert asked
    assert all('"client": "10.128.0.5"' in line or "fd00:10:128::5" in line for line in asked)


def test_hosts_win_over_dns(build: Any) -> None:
    """A name of /etc/hosts (hostAliases) is never asked for."""
    with build("*", ("link.test. 60 IN A 203.0.113.12",)) as scene:
        hosts = Path("/etc/netns") / scene.lab.namespace("pod") / "hosts"
        hosts.write_text(hosts.read_text() + "203.0.113.10 link.test\n")
        origin = scene.origin("203.0.113.10")
        client = scene.connect()
        client.send(f"GET http://link.test:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert origin.accept().source == ip_address("192.168.12.99")


def test_with_the_link_down_every_request_is_a_502(build: Any) -> None:
    """It names the link, and no packet for the outside leaves by the cluster link."""
    records = ("other.test. 60 IN A 203.0.113.10", "six.test. 60 IN AAAA 2001:db8:113::10")
    with build("*", records) as scene:
        outside = "dst net 203.0.113.0/24 or dst net 2001:db8:113::/64"
        for command in (("set", "macvlan0", "down"), ("del", "macvlan0")):
            with scene.lab.capture("pod", "eth0", outside) as capture:
                scene.lab.run("pod", ("ip", "link", *command))
                for target in ("other.test", "six.test", "203.0.113.10", "[2001:db8:113::10]"):
                    status, head, body = ask(scene, target)
                    assert status == 502
                    assert "error=destination_unavailable" in head
                    assert b"egress link down: macvlan0 " in body
                    client = scene.connect()
                    client.send(f"CONNECT {target}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    assert client.answer()[0] == 502
                assert not capture.packets()


def test_outsiders_find_no_proxy(scene: Any) -> None:
    """Neither on the source nor, with the pod as next hop, on the pod's address."""
    lab = scene.lab
    lab.run("outsider", ("ip", "route", "replace", "10.128.0.0/14", "via", "192.168.12.99"))
    try:
        for address in ("192.168.12.99", "10.128.0.5", "2001:db8:12::99"):
            with scene.inside("outsider"), pytest.raises(OSError, match=r"timed out|refused"):
                socket.create_connection((address, 8080), timeout=0.5).close()
    finally:
        lab.run("outsider", ("ip", "route", "del", "10.128.0.0/14"))


def test_the_listener_hears_the_cluster_link_alone(scene: Any) -> None:
    """Even without our nftables table: each listening socket is bound to its link."""
    listening = scene.lab.run("pod", ("ss", "-Htln", "sport", "=", ":8080")).stdout
    local = sorted(line.split()[3] for line in listening.splitlines())
    assert local == sorted(
        (
            "127.0.0.1%lo:8080",
            "[::1]%lo:8080",
            "10.128.0.5%lo:8080",
            "[fd00:10:128::5]%lo:8080",
            "10.128.0.5%eth0:8080",
            "[fd00:10:128::5]%eth0:8080",
        )
    )
