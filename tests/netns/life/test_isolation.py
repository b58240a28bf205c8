"""One handler's fault is nobody else's, and the admin port is for the cluster alone (107, 108)."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest

from egress_router.lab.addresses import ADDRESSES

pytestmark = pytest.mark.netns

PORT = "9090"
Build = Any  # the fixture of this folder
Until = Any

# The real program, with a fault of ours put in where one request or connection is worked on.
FAULTS = {
    "http": """
from egress_router.modes.http import client
sound = client.parse_authority
def parse(text):
    if text.startswith("boom."):
        raise ZeroDivisionError("a fault of ours")
    return sound(text)
client.parse_authority = parse
""",
    "dns": """
from egress_router.modes.dns import partners
sound = partners.Partners.connect
def connect(self, on_end):
    if self.name.literal is not None:
        raise ZeroDivisionError("a fault of ours")
    return sound(self, on_end)
partners.Partners.connect = connect
""",
}


@pytest.mark.parametrize("mode", ["http", "dns"])
def test_an_unforeseen_error_ends_one_connection(router: Build, until: Until, mode: str) -> None:
    """It is logged and counted; those beside it go on, new ones work, the daemon lives."""
    code = (
        "import sys\nfrom egress_router.service import signals\n"
        f"{FAULTS[mode]}\nfrom egress_router.__main__ import main\nsys.exit(main())\n"
    )
    one = router(mode, program=(sys.executable, "-c", code))
    beside = [one.tunnel() for _ in range(20)]
    before = one.status()["process"]["open_descriptors"]
    for _ in range(10):
        # The reset may come before the connection is noticed to be there.
        with (
            contextlib.suppress(ConnectionError),
            one.connect(8080 if mode == "http" else 8089) as broken,
        ):
            if mode == "http":
                broken.sendall(b"CONNECT boom.test:80 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert broken.recv(65536) == b""
    for sock in beside:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    one.tunnel().close()
    counted = {
        "http": "egress_router_handler_errors_total",
        "dns": "egress_router_loop_errors_total",
    }[mode]
    assert one.metric(counted) == 10
    until(lambda: "a fault of ours" in one.daemon.output())
    until(lambda: one.status()["process"]["open_descriptors"] <= before + 1)
    assert one.health()[0] == 0


@pytest.mark.parametrize("mode", ["redirect", "http", "dns"])
def test_the_lag_of_the_loop_is_exported(router: Build, mode: str) -> None:
    """The probe runs in every daemon, and a daemon at rest is not late."""
    one = router(mode)
    assert 0 <= one.metric("egress_router_loop_lag_seconds") < 1


@pytest.mark.parametrize("mode", ["http", "dns"])  # redirect: tests/netns/test_daemon.py
def test_the_admin_port_is_closed_to_the_outside(router: Build, mode: str) -> None:
    """The cluster reaches it; the outside network gets no answer by any of the pod's addresses."""
    one = router(mode, EGRESS_ADMIN_PORT=PORT)
    world = one.lab
    sock = one.connect(int(PORT))
    sock.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
    assert b" 200 " in sock.recv(65536)
    for version in (4, 6):
        pod, source = ADDRESSES.pod.of(version), ADDRESSES.source.of(version)
        hop = (f"{pod}/{pod.max_prefixlen}", "via", str(source))
        world.run("outsider", ("ip", "route", "add", *hop))
        for target in (pod, source):
            answer = world.ask("outsider", "tcp", target, int(PORT), timeout=0.3)
            assert answer == "ETIMEDOUT"


OWN = (
    f"{ADDRESSES.pod.v4}:{PORT}",
    f"[{ADDRESSES.pod.v6}]:{PORT}",
    f"{ADDRESSES.source.v4}:{PORT}",
    f"127.0.0.1:{PORT}",
    f"[::1]:{PORT}",
    f"[::ffff:{ADDRESSES.pod.v4}]:{PORT}",
    f"pod.test:{PORT}",
    f"source.test:{PORT}",
    f"localhost:{PORT}",
)


def test_the_admin_port_cannot_be_reached_through_the_proxy(router: Build) -> None:
    """Whatever the pod is called, by tunnel or by request, with a list that allows everything."""
    one = router("http", EGRESS_ADMIN_PORT=PORT)
    for target in OWN:
        for request in (
            f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET http://{target}/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET http://{target}/metrics HTTP/1.0\r\n\r\n",
        ):
            sock = one.connect()
            sock.sendall(request.encode())
            answer = sock.recv(65536)
            assert answer.split()[1] in {b"400", b"403"}, (request, answer)
            assert b"egress_router_" not in answer
            sock.close()


def test_the_admin_port_cannot_be_reached_through_a_forwarded_port(router: Build) -> None:
    """A line that leads to the pod itself, by address or by name, refuses its clients."""
    lines = f"8080 www.partner.test 80\n8081 {ADDRESSES.pod.v4} {PORT}\n8082 pod.test {PORT}\n"
    one = router("dns", EGRESS_ADMIN_PORT=PORT, EGRESS_DNS_PROXY_DESTINATION=lines)
    one.tunnel()
    for port in (8081, 8082):
        assert one.lab.ask("client", "tcp", ADDRESSES.pod.v4, port) == "ECONNREFUSED"
