"""The proxy as several processes that share its port: to its clients and its pod it is one."""

from __future__ import annotations

import json
import operator
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED, UNPRIVILEGED_UID
from egress_router.service.client import ask
from tests.configmap import ConfigMap

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.netns

DEADLINE_S = 15.0
SOON_S = 5.0  # of many seconds that a test takes to be sure, on a machine that does much else
PROCESSES = {"0", "1"}


def document(scene: Any) -> dict[str, Any]:
    """The document of /status."""
    text = scene.lab.router(("status", "--json"), {}).stdout
    told: dict[str, Any] = json.loads(text)
    return told


def metrics(scene: Any) -> str:
    """What a scraper gets."""
    with scene.inside("pod"):
        status, body = ask("http", "/metrics", DEADLINE_S)
    assert status == 200
    return body.decode()


def wait_for(what: Callable[[], Any]) -> Any:
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + DEADLINE_S
    while not (answer := what()):
        assert time.monotonic() < end, f"not so after {DEADLINE_S} s"
        time.sleep(0.02)  # between two looks at another process
    return answer


def connect(scene: Any, port: int, host: str = "other.test") -> tuple[Any, int]:
    """A CONNECT and its status."""
    client = scene.connect()
    client.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return client, int(client.until(b"\r\n\r\n").split()[1])


def processes(lines: list[dict[str, Any]]) -> set[str]:
    """Which processes have written these decision lines."""
    return {line["id"].partition("-")[0] for line in lines if "id" in line}


def tunnels(scene: Any, origin: Any, host: str = "other.test") -> list[tuple[Any, Any]]:
    """Open tunnels, client and server, at least three of them in each process.

    Each is two descriptors of the process that has it.
    """
    before = descriptors(scene)
    opened: list[tuple[Any, Any]] = []
    while not opened or min(map(operator.sub, descriptors(scene), before)) < 6:
        assert len(opened) < 128, descriptors(scene)
        for _ in range(16):
            client, status = connect(scene, origin.port, host)
            assert status == 200
            opened.append((client, origin.accept()))
    return opened


def descriptors(scene: Any) -> list[int]:
    """How many each process has open."""
    told = document(scene)
    return [row["open_descriptors"] for row in (told["process"], *told["workers"])]


def test_every_process_serves_and_one_answers_for_all(build: Any) -> None:
    """Sums of status and metrics are exactly what clients have asked for, whoever served them."""
    rounds, size = 40, 1000
    with build("!www.example.test\n*", EGRESS_WORKERS="2") as scene:
        origin = scene.origin()
        opened = []
        for number in range(rounds):
            host = "www.example.test" if number % 4 == 0 else "other.test"
            client, status = connect(scene, origin.port, host)
            assert status == (403 if number % 4 == 0 else 200)
            server = origin.accept() if status == 200 else None
            if server is not None:
                client.send(b"x" * size)
                server.exactly(size)
            opened.append((client, server))
        # Not before: a process that has fewer takes the next.
        for client, server in opened:
            if server is not None:
                server.close()
                client.rest()
            client.close()
        lines = wait_for(
            lambda: found if len(found := [x for x in scene.lines() if "id" in x]) == rounds else []
        )
        assert processes(lines) == PROCESSES
        assert len({line["id"] for line in lines}) == rounds
        text = metrics(scene)
        for line in (
            'egress_router_http_requests_total{kind="tunnel",verdict="allowed"} 30.0',
            'egress_router_http_requests_total{kind="tunnel",verdict="refused"} 10.0',
            'egress_router_http_decisions_total{line="2",rule="*",verdict="allowed"} 30.0',
            f'egress_router_http_bytes_total{{direction="up"}} {30.0 * size}',
            'egress_router_dial_seconds_count{outcome="connected"} 30.0',
            'egress_router_http_active{kind="connection"} 0.0',
            "egress_router_ready 1.0",
        ):
            assert f"\n{line}\n" in text, line
        told = document(scene)
        (row,) = (row for row in told["served"] if row["kind"] == "tunnels")
        assert (row["allowed"], row["refused"], row["open"]) == (30, 10, 0)
        assert [(one["line"], one["allowed"] + one["refused"]) for one in told["by_rule"]] == [
            (1, 10),
            (2, 30),
        ]
        (denial,) = told["recent_denials"]
        assert denial["times"] == 10
        assert told["from_clients_bytes"] == 30 * size
        assert len(told["workers"]) == 1


def refused_by(scene: Any, port: int) -> set[str]:
    """Has a crowd refused, more at once than one process takes, and tells by which so far."""
    crowd = [scene.connect() for _ in range(24)]
    for client in crowd:
        client.send(f"CONNECT other.test:{port} HTTP/1.1\r\nHost: other.test\r\n\r\n".encode())
    assert {client.until(b"\r\n\r\n").split()[1] for client in crowd} == {b"403"}
    return processes([line for line in scene.lines() if line["event"] == "http_refused"])


def test_a_reload_reaches_every_process(build: Any) -> None:
    """Verdicts change in all of them; tunnels that are denied now are cut and counted in all."""
    with (
        ConfigMap("*\n") as config,
        build("", EGRESS_HTTP_PROXY_DESTINATION_FILE=str(config.file), EGRESS_WORKERS="2") as scene,
    ):
        origin = scene.origin()
        goes = tunnels(scene, origin)
        keeps = [connect(scene, origin.port, "www.example.test")[0] for _ in range(8)]
        far = [origin.accept() for _ in keeps]
        config.swap("!other.test\n*\n")
        wait_for(lambda: document(scene)["reload"]["generation"] == 2)
        for client, server in goes:
            assert client.ended()
            assert server.ended()
        for client in keeps:
            client.send(b"still")
        for server in far:
            assert server.exactly(5) == b"still"
        wait_for(lambda: refused_by(scene, origin.port) == PROCESSES)
        (applied,) = (line for line in scene.lines() if line["event"] == "reload_applied")
        assert applied["ended"] == len(goes)

        def told() -> list[dict[str, Any]]:
            cut = [line for line in scene.lines() if "cut, for the rules" in line.get("note", "")]
            return cut if len(cut) == len(goes) else []

        cut = wait_for(told)
        assert processes(cut) == PROCESSES
        assert f"connections_ended_total {float(len(goes))}" in metrics(scene)


def test_a_list_that_is_wrong_changes_no_process(build: Any) -> None:
    """It is refused once, and all go on with the old one."""
    with (
        ConfigMap("*\n") as config,
        build("", EGRESS_HTTP_PROXY_DESTINATION_FILE=str(config.file), EGRESS_WORKERS="2") as scene,
    ):
        origin = scene.origin()
        config.swap("!*\n")
        wait_for(lambda: document(scene)["reload"]["result"] == "refused")
        assert {connect(scene, origin.port)[1] for _ in range(24)} == {200}
        wait_for(lambda: len([x for x in scene.lines() if x["event"] == "reload_refused"]) == 1)
        scene.daemon.signal(signal.SIGHUP)
        wait_for(lambda: len([x for x in scene.lines() if x["event"] == "reload_refused"]) == 2)
        assert document(scene)["ready"]


def test_a_stop_lets_tunnels_of_every_process_end(build: Any) -> None:
    """They carry on while the daemon drains; the last one's end is the daemon's, exit code 0."""
    with build("*", EGRESS_WORKERS="2") as scene:
        origin = scene.origin()
        opened = tunnels(scene, origin)
        scene.daemon.signal(signal.SIGTERM)
        scene.daemon.wait_for_line("daemon_stopping")
        for client, server in opened:
            client.send(b"still")
            assert server.exactly(5) == b"still"
        for client, server in opened[1:]:
            client.close()
            server.close()
        assert scene.daemon.running
        for end in opened[0]:
            end.close()
        assert scene.daemon.wait() == 0
        ended = [line for line in scene.lines() if line["event"] == "http_allowed"]
        assert len(ended) == len(opened)
        assert processes(ended) == PROCESSES


@pytest.mark.parametrize("how", ["the drain time", "a second signal"])
def test_what_is_open_anywhere_is_cut(build: Any, how: str) -> None:
    """Each tunnel is reset and has its line, in every process; exit code 0."""
    seconds = "1" if how == "the drain time" else "25"
    with build("*", EGRESS_WORKERS="2", EGRESS_DRAIN_SECONDS=seconds) as scene:
        opened = tunnels(scene, scene.origin())
        scene.daemon.signal(signal.SIGTERM)
        scene.daemon.wait_for_line("daemon_stopping")
        if how == "a second signal":
            scene.daemon.signal(signal.SIGTERM)
        assert scene.daemon.wait() == 0
        for client, _ in opened:
            assert client.ended()
        cut = [line for line in scene.lines() if line.get("note") == "cut"]
        assert len(cut) == len(opened)
        assert processes(cut) == PROCESSES


def test_a_killed_worker_ends_the_proxy(build: Any) -> None:
    """Nothing of it listens after that; what was open in the other process is cut with a line."""
    with build("*", EGRESS_WORKERS="2") as scene:
        opened = tunnels(scene, scene.origin())
        (worker,) = (row["pid"] for row in document(scene)["workers"])
        scene.lab.run("pod", ("kill", "-KILL", str(worker)))
        assert scene.daemon.wait() == 1
        for client, _ in opened:
            assert client.ended()
        with scene.inside("client"), pytest.raises(ConnectionRefusedError):
            socket.create_connection((str(ADDRESSES.pod.v4), 8080), timeout=DEADLINE_S)


def test_a_process_that_hangs_holds_up_nobody_else(build: Any) -> None:
    """New connections are served by the other one, all of them and soon."""
    with build("*", EGRESS_WORKERS="2") as scene:
        origin = scene.origin()
        worker = document(scene)["workers"][0]["pid"]
        os.kill(worker, signal.SIGSTOP)
        try:
            began = time.monotonic()
            opened = [connect(scene, origin.port) for _ in range(40)]
            assert time.monotonic() - began < SOON_S
        finally:
            os.kill(worker, signal.SIGCONT)
        assert {status for _, status in opened} == {200}
        assert wait_for(lambda: document(scene)["connections"] == 40)


def test_connections_that_stay_are_spread_evenly(build: Any) -> None:
    """However slowly they come: who is quicker does not take them all."""
    with build("*", EGRESS_WORKERS="2") as scene:
        origin = scene.origin()
        before = descriptors(scene)
        opened = [connect(scene, origin.port) for _ in range(40)]
        assert {status for _, status in opened} == {200}
        more = [now - then for now, then in zip(descriptors(scene), before, strict=True)]
        assert sum(more) >= 80
        assert min(more) >= 16, "two for each connection; half of them would be 40"


def test_a_limit_is_shared_out(build: Any) -> None:
    """The parts add up to the limit, and what is beyond is answered 503 by whoever gets it."""
    with build("*", EGRESS_WORKERS="2", EGRESS_HTTP_PROXY_CONNECTION_LIMIT="8") as scene:
        told = document(scene)
        assert told["connection_limit"] == 8
        origin = scene.origin()
        statuses = [connect(scene, origin.port)[1] for _ in range(40)]
        assert statuses.count(200) == 8
        assert statuses.count(503) == 32
        told = document(scene)
        assert told["connections"] == 8
        assert 'http_shed_total{reason="full"} 32.0' in metrics(scene)


def test_a_port_that_is_taken_is_noticed(build: Any) -> None:
    """Even by a program of the same user that would share it; the daemon ends and says so."""
    with build("*", EGRESS_WORKERS="2") as scene:
        scene.daemon.stop()
        script = (
            "import os, socket, time\n"
            f"os.setuid({UNPRIVILEGED_UID})\n"
            "sock = socket.socket()\n"
            "sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
            "sock.bind(('127.0.0.1', 8080)); sock.listen()\n"
            "print('listening', flush=True); time.sleep(60)\n"
        )
        scene.lab.start("pod", ("python3", "-c", script), name="other").wait_for_line("listening")
        variables = {"EGRESS_HTTP_PROXY_DESTINATION": "*", "EGRESS_WORKERS": "2"}
        daemon = scene.lab.start_router(("http",), variables, wrap=UNPRIVILEGED)
        assert daemon.wait() == 4
        assert "another program of the pod listens on port 8080" in daemon.output()
