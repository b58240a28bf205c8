"""The end of a daemon that is busy (faults 100): what drains, what is cut, and when."""

from __future__ import annotations

import errno
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

TUNNELS, HALF_READ = 1000, 50
LINGER_S = 2.0
Build = Any  # the fixture of this folder
Until = Any


def ended_by(sock: socket.socket) -> str:
    """How the other side ended: "closed" or the error's name."""
    try:
        while sock.recv(65536):
            pass
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "closed"


def open_half_requests(router: Any) -> list[socket.socket]:
    """Requests whose heads, or bodies, have come half."""
    target = "http://www.partner.test/"
    halves = []
    for number in range(HALF_READ):
        sock = router.connect()
        if number % 2:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHo".encode())
        else:
            head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
            sock.sendall(head.encode())
        halves.append(sock)
    return halves


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_a_thousand_tunnels_and_half_read_requests(router: Build, until: Until, mode: str) -> None:
    """Not ready at once, listening two seconds more; what ends in time ends well, the rest is cut.

    The exit code is 0 within the drain time, and every tunnel has its line.
    """
    drain_s = 8.0
    one = router(mode, EGRESS_DRAIN_SECONDS=f"{drain_s:g}")
    tunnels = [one.tunnel() for _ in range(TUNNELS)]
    halves = open_half_requests(one) if mode == "http" else []
    started = time.monotonic()
    one.daemon.signal(signal.SIGTERM)
    one.daemon.wait_for_line("daemon_stopping")
    assert one.health()[0] == 1
    late = one.tunnel()  # the cluster may still send somebody
    late.close()
    until(lambda: refused(one), limit_s=drain_s)
    assert time.monotonic() - started >= LINGER_S
    for sock in tunnels[::2]:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x", "an open tunnel goes on"
        sock.shutdown(socket.SHUT_WR)
        assert ended_by(sock) == "closed"
    assert one.daemon.running
    assert one.daemon.wait(drain_s + 15) == 0
    took = time.monotonic() - started
    assert took >= drain_s - 0.5
    assert {ended_by(sock) for sock in tunnels[1::2]} == {"ECONNRESET"}
    for sock in halves:
        ended_by(sock)
    lines = one.lines("http_allowed" if mode == "http" else "dns_forwarded")
    ends = [line.get("note" if mode == "http" else "reason") for line in lines]
    assert ends.count("closed") > TUNNELS // 2
    assert ends.count("cut") >= TUNNELS // 2
    assert len(one.lines("daemon_cut")) == 1


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_the_second_signal_cuts_a_thousand_tunnels(router: Build, mode: str) -> None:
    """Whoever asks twice does not wait for the drain time; exit code 0, and lines that say cut."""
    one = router(mode, EGRESS_DRAIN_SECONDS="60")
    tunnels = [one.tunnel() for _ in range(TUNNELS)]
    one.daemon.signal(signal.SIGTERM)
    one.daemon.wait_for_line("daemon_stopping")
    one.daemon.signal(signal.SIGTERM)
    started = time.monotonic()
    assert one.daemon.wait(15) == 0
    assert time.monotonic() - started < 10, "one second on an idle machine"
    assert {ended_by(sock) for sock in tunnels} == {"ECONNRESET"}
    lines = one.lines("http_allowed" if mode == "http" else "dns_forwarded")
    # All of them on an idle machine; the last ones have 0.3 s to be written.
    assert len(lines) > TUNNELS / 2
    assert {line["note" if mode == "http" else "reason"] for line in lines} == {"cut"}


def test_a_keepalive_client_is_told_to_close(router: Build) -> None:
    """An answer during the drain says close, and the connection ends after it."""
    one = router("http")
    sock = one.connect()
    one.daemon.signal(signal.SIGTERM)
    one.daemon.wait_for_line("daemon_stopping")
    sock.sendall(b"GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
    seen = b""
    while data := sock.recv(65536):
        seen += data
    assert seen.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nConnection: close\r\n" in seen
    sock.close()
    assert one.daemon.wait(15) == 0


def refused(router: Any) -> bool:
    """Whether nobody listens any more."""
    address: Callable[..., Any] = router.lab.ask
    return address("client", "tcp", ADDRESSES.pod.v4, 8080) == "ECONNREFUSED"
