"""The verdict table, row by row, against the running proxy."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.netns
WORKERS = ("1", "2")

_REPEATED = re.compile(r"<(.)\*([0-9]+)>")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def wire(text: str, port: int) -> bytes:
    """The bytes of a row: Latin-1 where that is enough, else UTF-8; `<a*9000>` is 9,000 times a."""
    text = _REPEATED.sub(lambda match: match[1] * int(match[2]), text).replace("PORT", str(port))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def test_request(scene: Any, request_row: dict[str, Any]) -> None:
    """A request gets its status, and the origin sees of it exactly what the row says."""
    origin = scene.origin()
    client = scene.connect()
    client.send(wire(request_row["send"], origin.port))
    if "origin" in request_row:
        server = origin.accept()
        head = server.until(b"\r\n\r\n")
        assert head.startswith(wire(request_row["origin"], origin.port))
        assert wire(request_row.get("contains", ""), origin.port) in head
        assert b"\r\nVia: 1.1 egress-router-" in head
        server.send(OK)
    status, head, body = client.answer()
    assert status == request_row["status"], body
    if "origin" not in request_row and "Max-Forwards" not in request_row["send"]:
        assert "Proxy-Status: egress-router; error=" in head
        assert body.startswith(b"egress-router: ")
    if request_row.get("stays"):
        client.send(wire("GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port))
        assert client.answer()[0] == 403, "the next request is answered on the same connection"
    else:
        assert "\r\nConnection: close\r\n" in head
        client.finish()
        assert client.rest() == b"", "nothing behind the answer is answered"
    if request_row.get("origin_ends"):
        server = origin.accept()
        assert server.ended()
    elif "origin" not in request_row:
        assert origin.untouched()


def test_response(scene: Any, response_row: dict[str, Any]) -> None:
    """An answer arrives whole, or as a 502, or visibly torn; what follows it never arrives."""
    origin = scene.origin()
    client = scene.connect()
    request = wire("GET http://other.test:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.port)
    client.send(request)
    server = origin.accept()
    server.until(b"\r\n\r\n")
    server.send(wire(response_row["answer"], origin.port))
    if response_row.get("ends"):
        server.finish()
    head = client.until(b"\r\n\r\n").decode("latin-1")
    assert int(head.split()[1]) == response_row["status"]
    if response_row["status"] == 502:
        assert "Proxy-Status: egress-router; error=" in head
    if response_row.get("torn"):
        with pytest.raises(ConnectionResetError):
            client.rest()
        return
    if "body" in response_row:
        body = wire(response_row["body"], origin.port)
        assert client.exactly(len(body)) == body
    if response_row.get("again"):
        client.send(request)
        assert server.until(b"\r\n\r\n").startswith(b"GET / HTTP/1.1\r\n")
        server.send(OK)
        assert client.answer()[2] == b"ok"
    elif "body" in response_row:
        assert server.ended(), "a server that has not kept to its answer is not used again"
        if not response_row.get("ends"):
            client.send(request)
            server = origin.accept()
            server.until(b"\r\n\r\n")
            server.send(OK)
            assert client.answer()[2] == b"ok"
