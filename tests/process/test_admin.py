"""The admin endpoint and the programs that ask it, on real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

if TYPE_CHECKING:
    from collections.abc import Callable

Start = Any  # the fixture's launcher; its Daemon lives in conftest, which no test can import

HEALTH = "import sys; from egress_router.service.client import health_command as c; "
STATUS = "import sys; from egress_router.service.client import status_command as c; "
RUN = "sys.exit(c(sys.argv[1:]))"


@pytest.fixture
def run_client(tiny_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `health` or `status` as a process."""

    def run(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Any:
        return subprocess.run(
            [*prefix, sys.executable, "-c", code + RUN, *arguments],
            env=tiny_environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def daemon(start_shared: Start, port: int) -> Any:
    """A ready daemon that all tests of this module ask; none of them changes it."""
    daemon = start_shared(EGRESS_ADMIN_PORT=str(port), suffix="-b")
    daemon.wait_event("daemon_started")
    daemon.ask("/healthz")
    return daemon


def test_the_four_documents(daemon: Any) -> None:
    """/healthz, /readyz, /status and /metrics answer GET and HEAD, and nothing else answers."""
    assert daemon.ask("/healthz")[::2] == (200, "alive\n")
    assert daemon.ask("/readyz")[::2] == (200, "ready\n")
    document = json.loads(daemon.ask("/status")[2])
    assert document["ready"] is True
    assert document["source"] == ["192.0.2.7"]
    assert document["conditions"] == {"link": "ok"}
    assert daemon.ask("/readyz", method="HEAD")[::2] == (200, "")
    for method in ("POST", "DELETE", "OPTIONS"):
        status, head, _ = daemon.ask("/status", method=method)
        assert (status, "Allow: GET, HEAD" in head) == (405, True)
    assert daemon.ask("/nothing")[0] == 404


def test_the_page_and_its_policy(daemon: Any) -> None:
    """/ is the page, with a policy of its own; no document may be taken for another kind."""
    status, head, body = daemon.ask("/")
    assert (status, body.startswith("<!doctype html>")) == (200, True)
    assert "Content-Security-Policy: default-src 'none'; script-src 'sha256-" in head
    for path in ("/", "/status", "/metrics", "/nothing"):
        assert "X-Content-Type-Options: nosniff" in daemon.ask(path)[1]
    assert "Content-Security-Policy" not in daemon.ask("/status")[1]


@pytest.mark.parametrize(
    ("accept", "parse", "kind"),
    [
        ("*/*", parse_text, "text/plain"),
        ("application/openmetrics-text; version=1.0.0", parse_openmetrics, "openmetrics-text"),
    ],
)
def test_metrics_in_both_formats(daemon: Any, accept: str, parse: Any, kind: str) -> None:
    """Prometheus' own parsers read what /metrics answers, in the format that was asked for."""
    _, head, body = daemon.ask("/metrics", accept=accept)
    assert kind in head
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(body)
        for sample in family.samples
    }
    assert samples["egress_router_ready",] == 1
    assert samples["egress_router_condition", "link"] == 1
    assert samples["egress_router_repairs_total", "link"] == 2
    assert samples["process_open_fds",] > 3


def test_the_port_listens_where_it_is_told_to(daemon: Any, port: int, exchange_on: Any) -> None:
    """EGRESS_ADMIN_PORT is opened on the addresses the mode gives, and on no other."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert exchange_on(connection, "/readyz")[::2] == (200, "ready\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_hoarded_connections_do_not_lock_it(daemon: Any) -> None:
    """Whoever opens connections and says nothing loses the oldest; others are answered."""
    hoard = []
    try:
        for _ in range(200):
            connection = socket.socket(socket.AF_UNIX)
            hoard.append(connection)
            connection.connect(f"\0egress-router/{daemon.mode}")
        assert daemon.ask("/healthz")[0] == 200
        hoard[0].settimeout(5)
        assert hoard[0].recv(1) == b""
    finally:
        for connection in hoard:
            connection.close()


def test_not_ready_says_why(start: Start, run_client: Any) -> None:
    """/readyz is 503 with each reason on a line while /healthz stays 200; `health` exits 1."""
    daemon = start("never_ready")
    daemon.wait_event("daemon_started")
    assert daemon.ask("/readyz")[::2] == (503, "link: link macvlan0 is down\n")
    assert daemon.ask("/healthz")[0] == 200
    failing = run_client(HEALTH, daemon.mode)
    assert (failing.returncode, failing.stdout) == (1, "")
    assert failing.stderr == f"{daemon.mode}: link: link macvlan0 is down\n"


def test_health_tells_ready_from_absent(daemon: Any, run_client: Any) -> None:
    """`health MODE` exits 0 when ready; an absent daemon is 1, a wrong call 2."""
    assert run_client(HEALTH, daemon.mode).returncode == 0
    absent = run_client(HEALTH, "no-such-mode")
    assert absent.returncode == 1
    assert absent.stderr == "no-such-mode: no such daemon runs in this network namespace\n"
    assert run_client(HEALTH, "--nonsense").returncode == 2


def test_health_does_not_wait_for_a_mute_daemon(run_client: Any) -> None:
    """A daemon that accepts and never answers fails the probe in time, with a reason."""
    mode = f"mute-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"\0egress-router/{mode}")
        mute.listen(1)
        probe = run_client(HEALTH, mode)
    assert (probe.returncode, probe.stderr) == (1, f"{mode}: no answer within 0.8 s\n")


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_health_finds_the_daemons_by_itself(start: Start, run_client: Any) -> None:
    """Without MODE `health` asks every daemon of the network namespace; none is a failure."""
    daemon = start(prefix=("unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"))
    daemon.wait_event("daemon_started")
    inside = ("nsenter", f"--net=/proc/{daemon.process.pid}/ns/net")
    end = time.monotonic() + 10  # the daemon serves before its endpoint answers
    while (found := run_client(HEALTH, prefix=inside)).returncode and time.monotonic() < end:
        assert found.stderr.startswith(daemon.mode), "it was found, and was only late"
    assert found.returncode == 0
    assert f"{daemon.mode} (version" in run_client(STATUS, prefix=inside).stdout
    nobody = run_client(HEALTH, prefix=("unshare", "-n"))
    assert (nobody.returncode, nobody.stderr) == (1, "no daemon runs in this network namespace\n")


def test_status_prints_a_table_or_the_document(daemon: Any, run_client: Any) -> None:
    """`status MODE` is for people, `status MODE --json` for programs."""
    table = run_client(STATUS, daemon.mode).stdout
    assert re.search(r"^ready +yes, for \d+s$", table, re.MULTILINE)
    assert re.search(r"^source +192\.0\.2\.7$", table, re.MULTILINE)
    document = json.loads(run_client(STATUS, daemon.mode, "--json").stdout)
    assert document["mode"] == daemon.mode


@pytest.mark.parametrize("ends", ["interrupted", "reader gone"])
def test_status_watches(ends: str, daemon: Any, tiny_environment: dict[str, str]) -> None:
    """`--watch --json` prints a line again and again, and its end is no error, however it comes."""
    watch = subprocess.Popen(
        [sys.executable, "-c", STATUS + RUN, daemon.mode, "--json", "--watch", "0.2"],
        env=tiny_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    assert watch.stderr is not None
    lines = [watch.stdout.readline() for _ in range(3)]
    assert [json.loads(line)["mode"] for line in lines] == [daemon.mode] * 3
    if ends == "interrupted":
        watch.send_signal(signal.SIGINT)
    else:
        watch.stdout.close()
    assert watch.wait(10) == 0
    assert watch.stderr.read() == ""
    watch.stderr.close()
    watch.stdout.close()
