"""Limits, times and the end: what is owed to a client when there is too much, or too little."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

pytestmark = pytest.mark.netns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = {
    "EGRESS_HTTP_PROXY_HEAD_SECONDS": "1",
    "EGRESS_HTTP_PROXY_KEEPALIVE_SECONDS": "2",
    "EGRESS_HTTP_PROXY_ANSWER_SECONDS": "1",
    "EGRESS_HTTP_PROXY_BODY_SECONDS": "1",
    "EGRESS_HTTP_PROXY_TUNNEL_SECONDS": "1",
    "EGRESS_HTTP_PROXY_DIAL_SECONDS": "0.5",
}


def get(origin: Any, fields: str = "", method: str = "GET") -> bytes:
    """A request for an origin."""
    target = f"http://other.test:{origin.port}/"
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


@pytest.fixture(scope="module")
def hasty(build: Any) -> Any:
    """A world whose proxy waits about a second for everything."""
    with build("*", **SHORT) as scene:
        yield scene


def test_a_head_has_to_be_complete_in_time(hasty: Any) -> None:
    """Silent or dripping, first or second request: 408 and the end, within three seconds."""
    origin = hasty.origin()
    silent, dripping, second = hasty.connect(), hasty.connect(), hasty.connect()
    second.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    second.answer()
    start = time.monotonic()
    second.send(b"GET http")
    dripping.sock.settimeout(0.1)
    for byte in get(origin) * 10:
        dripping.send(bytes([byte]))
        try:
            dripping.seen += dripping.sock.recv(65536)
        except TimeoutError:
            continue
        break
    dripping.sock.settimeout(10)
    for client in (silent, dripping, second):
        status, head, _ = client.answer()
        assert status == 408
        assert "\r\nConnection: close\r\n" in head
    assert time.monotonic() - start < 4


def test_slow_clients_cost_others_nothing(hasty: Any) -> None:
    """While a hundred of them drip, a good one is served at once."""
    origin = hasty.origin()
    slow = [hasty.connect() for _ in range(100)]
    for client in slow:
        client.send(b"G")
    good = hasty.connect()
    start = time.monotonic()
    good.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    assert good.answer()[2] == b"ok"
    assert time.monotonic() - start < 1
    assert all(client.answer()[0] == 408 for client in slow)


def test_an_idle_connection_is_closed_without_a_word(hasty: Any) -> None:
    """Between two requests nobody is owed an answer."""
    origin = hasty.origin()
    client = hasty.connect()
    client.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    client.answer()
    assert client.rest() == b""


def test_a_server_that_does_not_answer_is_a_504(hasty: Any) -> None:
    """And its connection is closed."""
    origin = hasty.origin()
    client = hasty.connect()
    client.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    status, head, _ = client.answer()
    assert status == 504
    assert "error=http_response_timeout" in head
    assert server.ended()


def test_a_body_that_rests(hasty: Any) -> None:
    """The client's is a 408; the server's, once the answer has begun, a reset."""
    origin = hasty.origin()
    client = hasty.connect()
    client.send(get(origin, "Content-Length: 9\r\n", "POST") + b"abc")
    server = origin.accept()
    server.until(b"abc")
    assert client.answer()[0] == 408
    client = hasty.connect()
    client.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    with pytest.raises(ConnectionResetError):
        client.rest()


def test_a_server_that_cannot_be_reached_is_a_504(hasty: Any) -> None:
    """A packet that nobody answers: the dial ends at its limit and says so."""
    hasty.lab.run("gw", ("ip", "route", "add", "blackhole", "198.51.100.7/32"))
    client = hasty.connect()
    client.send(b"CONNECT 198.51.100.7:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    status, head, body = client.answer()
    assert status == 504, body
    assert "error=connection_timeout" in head


def test_an_idle_tunnel_ends(hasty: Any) -> None:
    """With an end on both sides, and a line that says idle."""
    origin = hasty.origin()
    client = hasty.connect()
    client.send(f"CONNECT other.test:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    client.until(b"\r\n\r\n")
    server = origin.accept()
    assert client.rest() == b""
    assert server.rest() == b""
    assert hasty.decision(f"other.test:{origin.port}")["note"] == "idle"


def test_one_too_many_is_a_503(build: Any) -> None:
    """It says when to come again; those inside are served; a place that is left is given anew."""
    with build("*", EGRESS_HTTP_PROXY_CONNECTION_LIMIT="2") as scene:
        origin = scene.origin()
        inside = [scene.connect() for _ in range(2)]
        for client in inside:
            client.send(get(origin))
            server = origin.accept()
            server.until(b"\r\n\r\n")
            server.send(OK)
            client.answer()
        excess = scene.connect()
        excess.send(get(origin))
        status, head, _ = excess.answer()
        assert status == 503
        assert "\r\nRetry-After: 1\r\n" in head
        assert "error=connection_limit_reached" in head
        assert excess.ended()
        inside.pop().close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            client = scene.connect()
            client.send(b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n")
            if client.answer()[0] == 403:  # 503: the place is still being left
                break
        else:
            pytest.fail("no place was given anew")


def serve_one(origin: Any, client: Any) -> Any:
    """Lets one request reach its server, unanswered."""
    client.send(get(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    return server


def test_a_stop_lets_requests_end(build: Any) -> None:
    """New ones are served for two seconds; open ones end; idle ones are closed; exit code 0."""
    with build("*") as scene:
        origin = scene.origin()
        busy, idle, tunnel = scene.connect(), scene.connect(), scene.connect()
        server = serve_one(origin, busy)
        other = serve_one(origin, idle)
        other.send(OK)
        idle.answer()
        tunnel.send(f"CONNECT other.test:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        tunnel.until(b"\r\n\r\n")
        far = origin.accept()
        scene.daemon.signal(signal.SIGTERM)
        scene.daemon.wait_for_line("daemon_stopping")
        late = scene.connect()
        last = serve_one(origin, late)
        last.send(OK)
        _, head, _ = late.answer()
        assert "\r\nConnection: close\r\n" in head
        assert idle.rest() == b""
        tunnel.send(b"still")
        assert far.exactly(5) == b"still"
        server.send(OK)
        assert busy.answer()[2] == b"ok"
        assert scene.daemon.running
        far.close()
        tunnel.close()
        assert scene.daemon.wait() == 0
        ended = [line for line in scene.lines() if line["event"] == "http_allowed"]
        assert len(ended) == 4


def test_the_drain_time_cuts(build: Any) -> None:
    """What is still open then gets a reset and a line; exit code 0."""
    with build("*", EGRESS_DRAIN_SECONDS="1") as scene:
        origin = scene.origin()
        client, tunnel = scene.connect(), scene.connect()
        serve_one(origin, client)
        tunnel.send(f"CONNECT other.test:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        tunnel.until(b"\r\n\r\n")
        start = time.monotonic()
        scene.daemon.signal(signal.SIGTERM)
        assert scene.daemon.wait() == 0
        assert 0.9 < time.monotonic() - start < 3
        notes = [line["note"] for line in scene.lines() if line["event"] == "http_allowed"]
        assert notes == ["cut", "cut"]
        assert client.ended()
        assert tunnel.ended()


def test_a_second_signal_cuts_now(build: Any) -> None:
    """Whoever asks twice does not want to wait."""
    with build("*") as scene:
        client = scene.connect()
        serve_one(scene.origin(), client)
        start = time.monotonic()
        scene.daemon.signal(signal.SIGTERM)
        scene.daemon.wait_for_line("daemon_stopping")
        scene.daemon.signal(signal.SIGTERM)
        assert scene.daemon.wait() == 0
        assert time.monotonic() - start < 2


def test_everything_comes_back(build: Any) -> None:
    """Descriptors after three hundred tunnels and requests are those from before."""
    with build("*") as scene:
        origin = scene.origin()

        def metric(name: str) -> float:
            status = scene.lab.router(("status", "--json"), {}).stdout
            return float(json.loads(status)["process"][name])

        before = metric("open_descriptors")
        clients, servers = [], []
        for number in range(300):
            client = scene.connect()
            if number % 2:
                client.send(get(origin))
            else:
                target = f"other.test:{origin.port}"
                client.send(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            clients.append(client)
            servers.append(origin.accept())
        assert metric("open_descriptors") >= before + 600
        for client in clients:
            client.close()
        deadline = time.monotonic() + 5
        while metric("open_descriptors") > before:
            assert time.monotonic() < deadline
