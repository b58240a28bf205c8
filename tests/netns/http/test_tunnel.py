"""Tunnels: when they open, what passes, how each end is passed on (B2, B6)."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.netns
WORKERS = ("1", "2")

PAYLOAD = hashlib.shake_128(b"tunnel").digest(4_000_000)


def connect(origin: Any, *, version: str = "1.1", name: str = "other.test") -> bytes:
    """A CONNECT request."""
    host = f"Host: {name}:{origin.port}\r\n" if version == "1.1" else ""
    return f"CONNECT {name}:{origin.port} HTTP/{version}\r\n{host}\r\n".encode()


HEADS = ["a new head", "a known head", "a known head, and clients that speak first"]


@pytest.fixture(params=HEADS)
def opened(scene: Any, request: pytest.FixtureRequest) -> Callable[..., tuple[Any, Any]]:
    """Opens a tunnel; gives its client and its server. A head seen before goes another way.

    Where clients spoke first, the handshake with the server is held back for a moment.
    """

    def opened(**wanted: str) -> tuple[Any, Any]:
        origin = scene.origin()
        for _ in range(HEADS.index(request.param)):
            client, server = tunnel(scene, origin, **wanted)
            if request.param == HEADS[2]:
                client.send(b"first")
                assert server.exactly(5) == b"first"
            client.close()
            server.rest()
            server.close()
        return tunnel(scene, origin, **wanted)

    return opened


def tunnel(scene: Any, origin: Any, **wanted: str) -> tuple[Any, Any]:
    """Client and server of an open tunnel."""
    client = scene.connect()
    client.send(connect(origin, **wanted))
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    return client, origin.accept()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_bytes_pass_both_ways(opened: Any, version: str) -> None:
    """Megabytes at once in either direction, byte for byte."""
    client, server = opened(version=version)
    senders = [threading.Thread(target=end.send, args=(PAYLOAD,)) for end in (client, server)]
    for sender in senders:
        sender.start()
    assert server.exactly(4096) == PAYLOAD[:4096]
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(client.exactly(len(PAYLOAD))))
    reader.start()
    assert server.exactly(len(PAYLOAD) - 4096) == PAYLOAD[4096:]
    for thread in (*senders, reader):
        thread.join()
    assert got == [PAYLOAD]


def test_a_server_that_speaks_first_waits_for_no_client(opened: Any) -> None:
    """Its first bytes are there at once, whoever spoke first in the tunnels before."""
    took_s = []
    for _ in range(5):
        client, server = opened()
        began = time.monotonic()
        server.send(b"220 ready")
        assert client.exactly(9) == b"220 ready"
        took_s.append(time.monotonic() - began)
        client.send(b"helo")
        assert server.exactly(4) == b"helo"
        client.close()
        server.close()
    took_s.sort()
    assert took_s[2] < 0.1, "the kernel alone would hold the handshake 200 ms"


def test_early_bytes_follow_the_answer(scene: Any) -> None:
    """What stands behind CONNECT is held until the server is there, and then sent first."""
    origin = scene.origin()
    client = scene.connect()
    client.send(connect(origin) + b"early" + b"x" * 60_000)
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    server = origin.accept()
    client.send(b"late")
    assert server.exactly(60_009) == b"early" + b"x" * 60_000 + b"late"


def test_bytes_behind_a_refused_connect_are_no_request(scene: Any) -> None:
    """The connection closes; what followed is neither answered nor sent anywhere (RFC 9931)."""
    origin = scene.origin()
    client = scene.connect()
    smuggled = f"GET http://other.test:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    client.send(b"CONNECT www.example.test:443 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled)
    status, head, _ = client.answer()
    assert status == 403
    assert "\r\nConnection: close\r\n" in head
    client.send(smuggled)
    client.finish()
    assert client.rest() == b""
    assert origin.untouched()


def test_no_200_before_the_server_is_there(scene: Any) -> None:
    """A refused connection is a 502 that says so, within a moment; also the second time."""
    seen: set[str] = set()
    for turn in (1, 2):
        client = scene.connect()
        client.send(b"CONNECT other.test:1 HTTP/1.1\r\nHost: other.test:1\r\n\r\n")
        status, head, body = client.answer()
        assert status == 502
        assert "\r\nConnection: close\r\n" in head
        assert "error=connection_refused" in head
        assert b"203.0.113.10 refused" in body
        client.finish()
        assert client.rest() == b""
        while len(seen) < turn:
            line = scene.decision("other.test:1")
            if line["kind"] == "tunnel":  # other tests ask for it in other ways
                seen.add(line["id"])
        assert (line["verdict"], line["status"]) == ("failed", 502)


def test_bytes_that_come_while_we_dial_again(scene: Any) -> None:
    """What a client of a known head sends before its tunnel is there goes first, its end behind."""
    origin = scene.origin()
    for _ in range(2):
        client = scene.connect()
        client.send(connect(origin))
        client.send(b"early")
        client.finish()
        server = origin.accept()
        assert server.rest() == b"early"
        server.send(b"answer")
        server.finish()
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert client.rest() == b"answer"


@pytest.mark.parametrize("first", ["client", "server"])
def test_each_half_ends_by_itself(opened: Any, first: str) -> None:
    """A FIN is passed on behind the last byte; the other way lives on."""
    ends = dict(zip(("client", "server"), opened(), strict=True))
    one = ends.pop(first)
    (other,) = ends.values()
    one.send(b"last words")
    one.finish()
    assert other.rest() == b"last words"
    other.send(PAYLOAD[:100_000])
    other.finish()
    assert one.rest() == PAYLOAD[:100_000]


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_is_passed_on(opened: Any, first: str) -> None:
    """The other end must not take a torn connection for a finished one."""
    ends = dict(zip(("client", "server"), opened(), strict=True))
    one = ends.pop(first)
    (other,) = ends.values()
    one.reset()
    with pytest.raises(ConnectionResetError):
        other.rest()


def test_a_reader_that_stops_stops_the_writer(opened: Any) -> None:
    """Nothing is piled up for it: the writer blocks after the buffers of the kernel."""
    client, server = opened()
    server.sock.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 100 * len(PAYLOAD):  # far more than any buffers on the way hold
            sent += server.sock.send(PAYLOAD)
    assert sent < 20 * len(PAYLOAD)
    server.sock.settimeout(10)
    rest = threading.Thread(target=lambda: (server.send(b"end"), server.finish()))
    rest.start()
    assert len(client.rest()) == sent + 3
    rest.join()


def test_slices_of_one_byte(opened: Any) -> None:
    """However small the pieces, the bytes are the same; urgent data keeps its place."""
    client, server = opened()
    for byte in b"slices":
        client.send(bytes([byte]))
    client.sock.send(b"!", socket.MSG_OOB)
    client.send(b"end")
    assert server.exactly(10) == b"slices!end"


def test_a_client_that_leaves_while_we_dial(scene: Any) -> None:
    """The dial is given up within a second, and the line says who left; also the second time."""
    target, seen = "198.51.100.66:443", set()
    scene.lab.run("gw", ("ip", "route", "add", "blackhole", "198.51.100.66/32"))
    try:
        for turn in (1, 2):
            client = scene.connect()
            client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            while "SYN-SENT" not in scene.lab.run("pod", ("ss", "-tna")).stdout:
                pass
            client.close()
            while len(seen) < turn:
                line = scene.decision(target)
                seen.add(line["id"])
            assert line["note"] == "client left"
            assert line["seconds"] < 5
    finally:
        scene.lab.run("gw", ("ip", "route", "del", "blackhole", "198.51.100.66/32"))


def test_a_tunnel_has_its_line(scene: Any) -> None:
    """With the bytes of either way, and why it ended."""
    origin = scene.origin()
    client = scene.connect()
    client.send(connect(origin) + b"12345")
    client.until(b"\r\n\r\n")
    server = origin.accept()
    server.exactly(5)
    server.send(b"123")
    server.finish()
    client.rest()
    client.close()
    line = scene.decision(f"other.test:{origin.port}")
    assert (line["kind"], line["verdict"], line["status"]) == ("tunnel", "allowed", 200)
    assert (line["bytes_up"], line["bytes_down"], line["note"]) == (5, 3, "closed")
