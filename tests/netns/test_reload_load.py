"""Fifty reloads under two hundred connections a second: nothing that stays allowed may notice."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.kernel.netns import entered
from egress_router.lab import caller
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import router_environment
from egress_router.lab.privileges import INIT_CAPABILITIES, UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.world import BARE_PYTHON, Lab
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress_router.lab.process import Process

    MakeLab = Callable[..., Lab]

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

RATE, RELOADS, HELD = 200, 50, 20
SECONDS = 150.0  # of calling at most; fifty reloads take ten on an idle machine
CALLS_LEAST = 1000
DEADLINE_S = 60.0
FIRST, SECOND = (str(pair.v4) for pair in ADDRESSES.partners[:2])
TARGET = "www.partner.test:80"
CASES = {
    # what stays; what comes and goes; the port that is called
    "http": ("www.partner.test\n", ("!other{}.test\n", "{}.test:8000-9000\n203.0.113.11\n"), 8080),
    "dns": (
        "8080 www.partner.test 80\n",
        (f"9001 {FIRST} 80\n", f"9001 {SECOND} 80\n9002 www{{}}.test 80\n"),
        8080,
    ),
    "redirect": (
        f"8080 tcp {FIRST} 80\n",
        (f"9001 tcp {FIRST} 80\n{{}}00 udp {FIRST}\n", f"9001 tcp {SECOND} 80\n{FIRST}\n"),
        8080,
    ),
}
VARIABLES = {
    "http": "EGRESS_HTTP_PROXY_DESTINATION_FILE",
    "dns": "EGRESS_DNS_PROXY_DESTINATION_FILE",
    "redirect": "EGRESS_DESTINATION_FILE",
}


class Follower:
    """Counts a daemon's lines of an event, each byte of the log read once."""

    def __init__(self, daemon: Process, event: str) -> None:
        self._file = daemon.stdout.open("rb")
        self._mark = f'"event":"{event}"'.encode()
        self._rest = b""
        self.count = 0

    def wait_for(self, count: int) -> None:
        """Returns when there are so many."""
        end = time.monotonic() + DEADLINE_S
        while self.count < count:
            data = self._rest + self._file.read()
            whole, _, self._rest = data.rpartition(b"\n")
            self.count += whole.count(self._mark)
            assert time.monotonic() < end, f"{self.count} of {count} reloads"
            time.sleep(0.01)  # between two looks at a file

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def start(world: Lab, mode: str, config: ConfigMap, wrap: Sequence[str], **more: str) -> Process:
    """Sets a pod up for a mode, and starts its daemon."""
    world.start_partner(tcp=(80,))
    world.start_nameserver(f"www.partner.test. 60 IN A {FIRST}")
    router_mode = {"http": "http-proxy", "dns": "dns-proxy", "redirect": "init"}[mode]
    file = {VARIABLES[mode]: str(config.file)}
    init = router_environment(
        world.spec,
        EGRESS_CONFLICT="takeover",
        EGRESS_ROUTER_MODE=router_mode,
        EGRESS_DESTINATION=None,
        **file,
    )
    world.router(("init",), init)
    told = init if mode == "redirect" else file
    daemon = world.start_router((mode,), {**told, **more}, wrap=wrap)
    wait_until_ready(world, daemon)
    return daemon


def hold(world: Lab, port: int, target: str) -> socket.socket:
    """An open connection to the partner."""
    with entered(f"/run/netns/{world.namespace('client')}"):
        sock = socket.create_connection((str(ADDRESSES.pod.v4), port), timeout=10)
    if target:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    seen = b""
    while b"\n{" not in b"\n" + seen or not seen.endswith(b"}\n"):
        seen += sock.recv(4096)
    return sock


@pytest.mark.parametrize(
    ("mode", "wrap", "more"),
    [
        pytest.param("http", UNPRIVILEGED, {}, id="http"),
        pytest.param("dns", UNPRIVILEGED, {}, id="dns-userspace"),
        pytest.param(
            "dns", INIT_CAPABILITIES, {"EGRESS_DNS_PROXY_DATAPATH": "kernel"}, id="dns-kernel"
        ),
        pytest.param("redirect", INIT_CAPABILITIES, {}, id="redirect"),
    ],
)
def test_nothing_that_stays_allowed_notices(
    lab: MakeLab, mode: str, wrap: Sequence[str], more: dict[str, str]
) -> None:
    """No new connection fails and no open one ends, while the list changes fifty times."""
    stays, churn, port = CASES[mode]
    target = TARGET if mode == "http" else ""
    with ConfigMap(stays + churn[0].format(1)) as config:
        world = lab()
        daemon = start(world, mode, config, wrap, **more)
        held = [hold(world, port, target) for _ in range(HELD)]
        argv = (
            *BARE_PYTHON,
            caller.__file__,
            str(ADDRESSES.pod.v4),
            *map(str, (port, RATE, SECONDS)),
            *filter(None, (target,)),
        )
        calling = world.start("client", argv, name="caller")
        applied = Follower(daemon, "reload_applied")
        for number in range(1, RELOADS + 1):
            config.swap(stays + churn[number % 2].format(number))
            applied.wait_for(number)
            held[number % HELD].sendall(b"x")
        assert calling.running, calling.tail()
        calling.signal(signal.SIGTERM)
        applied.close()
        for number, sock in enumerate(held):
            sent = sum(n % HELD == number for n in range(1, RELOADS + 1))
            assert read(sock, sent)
            sock.close()
        assert calling.wait(DEADLINE_S) == 0, calling.tail()
        called: dict[str, Any] = json.loads(calling.output())
        assert called["errors"] == []
        assert len(called["latencies"]) == called["calls"] >= CALLS_LEAST
        assert set(called["servers"]) == {FIRST}
        status = json.loads(world.router(("status", "--json"), {}).stdout)
        assert status["reload"]["generation"] == RELOADS + 1
        assert status["process"]["loop_lag_s"] < 3, "some 20 ms on an idle machine"


def read(sock: socket.socket, count: int) -> bool:
    """Whether so many bytes come back."""
    seen = b""
    while len(seen) < count:
        data = sock.recv(count - len(seen))
        assert data, "an allowed connection was ended"
        seen += data
    return seen == b"x" * count
