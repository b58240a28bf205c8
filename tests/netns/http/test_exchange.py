"""Plain requests: what passes, what is held, what is retried, what ends (B3, B4)."""

from __future__ import annotations

import hashlib
import threading
import time
from ipaddress import ip_address
from typing import Any

import pytest

pytestmark = pytest.mark.netns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PAYLOAD = hashlib.shake_128(b"payload").digest(3_000_000)


def request(
    origin: Any, fields: str = "", *, method: str = "GET", path: str = "/", name: str = "other.test"
) -> bytes:
    """A request for an origin in absolute form."""
    head = f"{method} http://{name}:{origin.port}{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"
    return head.encode("latin-1")


@pytest.mark.parametrize(
    ("name", "address", "source"),
    [
        ("other.test", "203.0.113.10", "192.168.12.99"),
        ("six.test", "2001:db8:113::10", "2001:db8:12::99"),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_the_partner_sees_the_source(
    scene: Any, name: str, address: str, source: str, version: int
) -> None:
    """By either family, for clients of either family, plain and through a tunnel."""
    origin = scene.origin(address)
    client = scene.connect(version=version)
    client.send(request(origin, name=name))
    server = origin.accept()
    assert server.source == ip_address(source)
    server.until(b"\r\n\r\n")
    server.send(OK)
    assert client.answer()[0] == 200
    tunnel = scene.connect(version=version)
    tunnel.send(f"CONNECT {name}:{origin.port} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    tunnel.until(b"\r\n\r\n")
    assert origin.accept().source == ip_address(source)


def test_one_connection_on_both_sides(scene: Any) -> None:
    """Requests of one client to one target share the server's connection."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    for number in range(5):
        server.until(b"\r\n\r\n")
        server.send(OK)
        assert client.answer()[2] == b"ok"
        client.send(request(origin, path=f"/{number}"))
    assert origin.untouched()


def test_nothing_is_shared_between_clients(scene: Any) -> None:
    """Another client gets another connection to the same server."""
    origin = scene.origin()
    for _ in range(2):
        client = scene.connect()
        client.send(request(origin))
        server = origin.accept()
        server.until(b"\r\n\r\n")
        server.send(OK)
        client.answer()


def test_an_unasked_answer_reaches_nobody(scene: Any) -> None:
    """A server that speaks while idle is dropped, and the next request goes to a new connection."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    client.answer()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert server.ended()
    client.send(request(origin))
    other = origin.accept()
    other.until(b"\r\n\r\n")
    other.send(OK)
    assert client.answer()[2] == b"ok"


@pytest.mark.parametrize(("method", "retried"), [("GET", True), ("PUT", True), ("POST", False)])
def test_a_dead_connection_is_tried_again_once(scene: Any, method: str, *, retried: bool) -> None:
    """Only for what may be done twice, and without a body (RFC 9110 §9.2.2)."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    client.answer()
    client.send(request(origin, method=method))
    server.until(b"\r\n\r\n")
    server.close()
    if retried:
        again = origin.accept()
        again.until(b"\r\n\r\n")
        again.close()
    assert client.answer()[0] == 502
    assert origin.untouched(), "not more than once"


def test_a_body_is_never_sent_twice(scene: Any) -> None:
    """A PUT with a body on a dead connection is a 502."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    client.answer()
    client.send(request(origin, "Content-Length: 3\r\n", method="PUT") + b"abc")
    server.until(b"\r\n\r\nabc")
    server.close()
    assert client.answer()[0] == 502
    assert origin.untouched()


def test_bodies_pass_byte_for_byte_both_ways(scene: Any) -> None:
    """Megabytes up by length and down by chunks, with what the sender does not take held back."""
    origin = scene.origin()
    client = scene.connect()
    head = request(origin, f"Content-Length: {len(PAYLOAD)}\r\n", method="POST")
    sender = threading.Thread(target=client.send, args=(head + PAYLOAD,))
    sender.start()
    server = origin.accept()
    assert f"Content-Length: {len(PAYLOAD)}\r\n".encode() in server.until(b"\r\n\r\n")
    assert server.exactly(len(PAYLOAD)) == PAYLOAD
    sender.join()

    def answer() -> None:
        server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(PAYLOAD), 70_001):
            piece = PAYLOAD[at : at + 70_001]
            server.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        server.send(b"0\r\n\r\n")

    answering = threading.Thread(target=answer)
    answering.start()
    client.until(b"\r\n\r\n")
    got = b""
    while (size := int(client.until(b"\r\n"), 16)) > 0:
        got += client.exactly(size)
        assert client.exactly(2) == b"\r\n"
    answering.join()
    assert client.exactly(2) == b"\r\n"
    assert got == PAYLOAD


def test_chunks_of_a_request_pass_with_their_trailers(scene: Any) -> None:
    """Whatever slices they come in; a trailer that frames or routes is dropped."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin, "Transfer-Encoding: chunked\r\nTE: trailers\r\n", method="POST"))
    server = origin.accept()
    assert b"Transfer-Encoding: chunked\r\n" in server.until(b"\r\n\r\n")
    for byte in b"5;x=y\r\nhello\r\n":
        client.send(bytes([byte]))
    body = b""
    while body.count(b"hello"[-1:]) == 0:
        size = int(server.until(b"\r\n"), 16)
        body += server.exactly(size)
        server.exactly(2)
    client.send(b"0\r\nContent-Length: 9\r\nX-Sum: 1\r\n\r\n")
    assert body == b"hello"
    assert server.until(b"\r\n\r\n") == b"0\r\nX-Sum: 1\r\n\r\n"
    server.send(OK)
    assert client.answer()[2] == b"ok"


def test_the_client_is_told_to_go_on_by_the_server_alone(scene: Any) -> None:
    """Expect passes, 100 comes back from the server, the body follows (RFC 9110 §10.1.1)."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin, "Content-Length: 5\r\nExpect: 100-continue\r\n", method="POST"))
    server = origin.accept()
    assert b"Expect: 100-continue\r\n" in server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    client.send(b"hello")
    assert server.exactly(5) == b"hello"
    server.send(OK)
    assert client.answer()[2] == b"ok"


def test_a_refused_expectation_ends_the_connection(scene: Any) -> None:
    """A final answer instead of 100: nobody knows whether the body still comes."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin, "Content-Length: 5\r\nExpect: 100-continue\r\n", method="POST"))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    status, head, _ = client.answer()
    assert status == 413
    assert "\r\nConnection: close\r\n" in head
    assert server.ended()


def test_interim_answers_pass(scene: Any) -> None:
    """103 with its fields, then the final one; the connection goes on."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert b"Link: </a>\r\n" in client.until(b"\r\n\r\n")
    assert client.answer()[2] == b"ok"


def test_http_1_0_gets_neither_interim_answers_nor_chunks(scene: Any) -> None:
    """It gets the bytes, and the end of the connection as their end."""
    origin = scene.origin()
    client = scene.connect()
    client.send(f"GET http://other.test:{origin.port}/ HTTP/1.0\r\n\r\n".encode())
    server = origin.accept()
    assert b"\r\nHost: other.test:" in server.until(b"\r\n\r\n")
    server.send(
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    head = client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"chunked" not in head
    assert client.rest() == b"hello"


def test_a_body_behind_an_answer_to_head_is_dropped(scene: Any) -> None:
    """The length stays in the head, the bytes go nowhere, the server is not used again."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin, method="HEAD"))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert b"Content-Length: 5\r\n" in client.until(b"\r\n\r\n")
    assert server.ended()
    client.send(request(origin))
    other = origin.accept()
    other.until(b"\r\n\r\n")
    other.send(OK)
    assert client.answer()[2] == b"ok"


def test_fields_of_the_connection_stop_here(scene: Any) -> None:
    """Both ways, with what Connection names; credentials for us go no further."""
    origin = scene.origin()
    client = scene.connect()
    client.send(
        request(
            origin,
            "Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
            "Proxy-Authorization: Basic c2VjcmV0\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX: 1\r\n",
        )
    )
    server = origin.accept()
    head = server.until(b"\r\n\r\n").decode()
    names = [line.split(":")[0] for line in head.split("\r\n")[1:-2]]
    assert names == ["Host", "X", "Via"]
    server.send(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
        b"X: 1\r\nContent-Length: 2\r\n\r\nok"
    )
    status, head, _ = client.answer()
    names = [line.split(":")[0] for line in head.split("\r\n")[1:-2]]
    assert status == 200
    assert names == ["X", "Content-Length", "Via", "Connection"]
    assert client.rest() == b""
    log = scene.daemon.output()
    assert "c2VjcmV0" not in log


def test_a_loop_is_refused(scene: Any) -> None:
    """A request that says that it has passed this very process is a 508 and goes nowhere."""
    origin = scene.origin()
    client = scene.connect()
    client.send(request(origin))
    server = origin.accept()
    head = server.until(b"\r\n\r\n").decode()
    via = next(line for line in head.split("\r\n") if line.startswith("Via: "))
    server.send(OK)
    client.answer()
    client.send(request(origin, f"{via}\r\n"))
    status, head, _ = client.answer()
    assert status == 508
    assert "error=proxy_loop_detected" in head
    client.send(request(origin, "Via: 1.1 egress-router-elsewhere\r\n"))
    assert b"Via: 1.1 egress-router-elsewhere\r\n" in server.until(b"\r\n\r\n")


def test_pipelined_requests_are_served_in_order(scene: Any) -> None:
    """A thousand at once; nothing behind `Connection: close` is answered."""
    origin = scene.origin()
    client = scene.connect()
    requests = [request(origin, path=f"/{number}") for number in range(1000)]
    last = request(origin, "Connection: close\r\n", path="/last")
    sender = threading.Thread(
        target=client.send, args=(b"".join(requests) + last + request(origin, path="/behind"),)
    )
    sender.start()
    server = origin.accept()

    def serve() -> None:
        for _ in range(1001):
            path = server.until(b"\r\n\r\n").split(b" ")[1]
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    serving = threading.Thread(target=serve)
    serving.start()
    paths = [client.answer()[2].decode() for _ in range(1001)]
    sender.join()
    serving.join()
    assert paths == [*(f"/{number}" for number in range(1000)), "/last"]
    assert client.rest() == b""


def test_a_websocket_is_a_tunnel_once_the_server_agrees(scene: Any) -> None:
    """101 passes with what follows it, and bytes flow both ways."""
    origin = scene.origin()
    client = scene.connect()
    client.send(
        request(
            origin,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
    )
    server = origin.accept()
    assert b"Upgrade: websocket\r\n" in server.until(b"\r\n\r\n")
    server.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: x\r\n\r\n\x81\x05hello"
    )
    head = client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Upgrade: websocket\r\n" in head
    assert client.exactly(7) == b"\x81\x05hello"
    client.send(b"\x81\x02hi")
    assert server.exactly(4) == b"\x81\x02hi"
    server.close()
    assert client.ended()


def test_a_refused_websocket_is_an_answer(scene: Any) -> None:
    """200 is no switch: it passes as the answer that it is, and the next request follows."""
    origin = scene.origin()
    client = scene.connect()
    client.send(
        request(
            origin,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
    )
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    assert client.answer()[2] == b"ok"
    client.send(request(origin))
    server.until(b"\r\n\r\n")


@pytest.mark.parametrize("moment", ["before the answer", "within the answer", "within the body"])
def test_a_client_that_leaves_ends_the_request(scene: Any, moment: str) -> None:
    """The server's connection is closed within a second, wherever the exchange stood."""
    origin = scene.origin()
    client = scene.connect()
    uploading = moment == "within the body"
    fields = "Content-Length: 100\r\n" if uploading else ""
    client.send(request(origin, fields, method="POST" if uploading else "GET"))
    server = origin.accept()
    server.until(b"\r\n\r\n")
    if moment == "within the answer":
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        client.until(b"hello")
    client.close()
    assert server.ended(within_s=1.0)


def test_query_and_credentials_stay_out_of_the_log(scene: Any) -> None:
    """A line names client, host and port, address, verdict, rule, bytes and status."""
    origin = scene.origin()
    client = scene.connect()
    client.send(
        request(origin, "Authorization: Bearer hush1\r\nCookie: a=hush2\r\n", path="/p?token=hush3")
    )
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(OK)
    client.answer()
    line = scene.decision(f"other.test:{origin.port}")
    assert {key: line[key] for key in ("kind", "address", "verdict", "rule", "status")} == {
        "kind": "request",
        "address": "203.0.113.10",
        "verdict": "allowed",
        "rule": 4,
        "status": 200,
    }
    assert (line["bytes_up"], line["bytes_down"]) == (0, 2)
    assert line["client"].startswith("10.128.2.10:")
    assert not any(f"hush{number}" in scene.daemon.output() for number in (1, 2, 3))


def test_equal_slices_are_no_equal_requests(scene: Any) -> None:
    """What is remembered of a head holds for a head with the same bytes, and for nothing less."""
    origin = scene.origin()
    client = scene.connect()
    end = b" HTTP/1.1\r\nHost: x\r\n\r\n"
    server = None
    for path in ("/one", "/two", "/two"):
        client.send(f"GET http://other.test:{origin.port}{path}".encode())
        time.sleep(0.05)  # so that the slices arrive as slices; either way the paths must be right
        client.send(end)
        server = server or origin.accept()
        assert server.until(b"\r\n\r\n").startswith(f"GET {path} ".encode())
        server.send(OK)
        client.answer()
    client.send(end)
    assert client.answer()[0] == 400


def test_equal_heads_get_their_own_answers(scene: Any) -> None:
    """The same head again, from client and server, with another body behind it each time."""
    origin = scene.origin()
    client = scene.connect()
    head = request(origin, "Content-Length: 1\r\n", method="POST")
    server = None
    for body in (b"a", b"b", b"c"):
        client.send(head)
        client.send(body)
        server = server or origin.accept()
        server.until(b"\r\n\r\n")
        assert server.exactly(1) == body
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)
        assert client.answer()[2] == body
    client.send(request(origin, method="HEAD"))
    server.until(b"\r\n\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    client.send(head + b"d")
    server.until(b"\r\n\r\nd")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd")
    assert client.answer()[2] == b"d"
