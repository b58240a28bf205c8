"""What an attacker with a connection tries: to reach the pod, starve others, lie in logs."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import wait_until_ready
from tests.netns.http.crowd import (
    Recorder,
    converse,
    cpu_s,
    read_messages,
    resident_bytes,
    sockets_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns

TABLE = tomllib.loads(Path(__file__).with_name("hostile.toml").read_text(encoding="utf-8"))
SECRET = "hunter2"  # noqa: S105 - what must not be found
RECORDS = (
    "allowed.test. 600 IN A 203.0.113.10",
    "pod.test. 600 IN A 10.128.0.5",
    "source.test. 600 IN A 192.168.12.99",
    "loop.test. 600 IN A 127.0.0.1",
    "mapped.test. 600 IN AAAA ::ffff:7f00:1",
    "nat64.test. 600 IN AAAA 64:ff9b::7f00:1",
    "six.test. 600 IN AAAA fd00:10:128::5",
)
TRAP_PORT = 9999
RESET = struct.pack("ii", 1, 0)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"


def get(port: int, *, fields: str = "") -> bytes:
    """A plain request for the good server."""
    return f"GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def answer_good(seen: bytes, answered: int) -> bytes | None:
    """One answer for each request."""
    return GOOD if seen.count(b"\r\n\r\n") > answered else None


def echo(seen: bytes, answered: int) -> bytes | None:
    """Sends back one byte for each that came."""
    return seen[answered : answered + 1] or None


@contextlib.contextmanager
def tunnels(scene: Any, count: int) -> Iterator[list[socket.socket]]:
    """Open tunnels to an echo, each of which has carried a byte."""
    with Recorder(scene.origin_socket(), echo) as server:
        connect = f"CONNECT allowed.test:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        opened = []
        for _ in range(count):
            client = scene.connect()
            client.send(connect)
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
            opened.append(client.sock)
        assert all(carries(sock) for sock in opened)
        yield opened


def carries(sock: socket.socket) -> bool:
    """Whether a byte goes there and back."""
    sock.sendall(b"x")
    return sock.recv(1) == b"x"


@pytest.fixture(scope="module")
def trapped(build: Any) -> Iterator[tuple[Any, list[object]]]:
    """A world where everything is allowed, and whoever reaches the pod's own port is noted."""
    caught: list[object] = []

    def catch(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, peer = listener.accept()
                caught.append((sock.getsockname(), peer))
                sock.close()

    with (
        build("*", RECORDS, EGRESS_HTTP_PROXY_DIAL_SECONDS="1") as scene,
        contextlib.ExitStack() as stack,
    ):
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            with scene.inside("pod"):
                listener = stack.enter_context(socket.socket(family))
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, TRAP_PORT))
            listener.listen(64)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=catch, args=(listener,), daemon=True).start()
        with scene.inside("pod"):  # the trap works
            socket.create_connection(("127.0.0.1", TRAP_PORT)).close()
        assert wait_until(lambda: len(caught) == 1, 5)
        caught.clear()
        yield scene, caught


@pytest.mark.parametrize("form", ["CONNECT {}:9999", "GET http://{}:9999/"])
@pytest.mark.parametrize("host", TABLE["itself"])
def test_nobody_reaches_the_pod_itself(
    trapped: tuple[Any, list[object]], host: str, form: str
) -> None:
    """However its addresses are written or wrapped: 403 or 400, and nothing is dialled."""
    scene, caught = trapped
    client = scene.connect()
    client.send(f"{form.format(host)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    status, head, _ = client.answer()
    assert status in {400, 403}, head
    assert not caught


@pytest.mark.parametrize("text", TABLE["secret"])
def test_credentials_stay_out_of_the_log(scene: Any, text: str) -> None:
    """Wherever a client puts them, and however badly: the log has the request, not the secret."""
    before = len(scene.lines())
    origin = scene.origin()
    client = scene.connect()
    text = text.replace("SECRET", SECRET).replace("PORT", str(origin.port))
    client.send(text.encode("latin-1"))
    client.answer()
    assert wait_until(lambda: len(scene.lines()) > before, 5)
    assert SECRET not in json.dumps(scene.lines()[before:])


def test_a_refusal_is_logged_at_once(scene: Any) -> None:
    """A refused client that stays keeps its line from nobody, nor makes the request look slow."""
    client = scene.connect()
    client.send(b"CONNECT www.example.test:4443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.answer()[0] == 403
    assert wait_until(
        lambda: any(line.get("target") == "www.example.test:4443" for line in scene.lines()), 1
    )
    assert scene.decision("www.example.test:4443")["seconds"] < 1


@pytest.mark.parametrize("style", ["json", "text"])
def test_log_lines_cannot_be_forged(build: Any, style: str) -> None:
    """One line for each request, whatever it holds: no line end, no escape, no foreign letter."""
    with build("*", RECORDS, EGRESS_LOG_FORMAT=style) as scene:
        assert wait_until(lambda: "daemon_started" in scene.daemon.output(), 5)
        before = len(scene.daemon.output().splitlines())
        for text in TABLE["forged"]:
            client = scene.connect()
            client.send(text.encode())
            client.answer()
        wanted = before + len(TABLE["forged"])
        read = scene.daemon.stdout.read_bytes
        assert wait_until(lambda: read().count(b"\n") >= wanted, 5)
        written = read()
        assert written.count(b"\n") == wanted
        assert not {*written} & {*range(32), 127} - {10}, "no control characters"
        text = written.decode()
        assert text.splitlines() == text.split("\n")[:-1], "no line end of another alphabet"
        assert b"forged" not in [line[:6] for line in written.splitlines()]


def test_one_too_many(build: Any) -> None:
    """Above the limit: 503 with Retry-After for each, those inside unhurt, recovery at once."""
    with (
        build("*", RECORDS, EGRESS_HTTP_PROXY_CONNECTION_LIMIT="40") as scene,
        Recorder(scene.origin_socket(), answer_good) as server,
        tunnels(scene, 30) as inside,
    ):
        crowd = [(scene.connect().sock, get(server.port)) for _ in range(200)]
        talks = converse(crowd, limit_s=3)
        statuses = [talk.data.split(b" ", 2)[1] for talk in talks]
        assert statuses.count(b"503") >= 150
        assert {*statuses} <= {b"200", b"503"}
        for talk in talks:
            if talk.data.startswith(b"HTTP/1.1 503 "):
                assert b"\r\nRetry-After: 1\r\n" in talk.data
                assert talk.end != "open"
        assert all(map(carries, inside))
        for sock, _ in crowd:
            sock.close()
        assert wait_until(lambda: is_served(scene, server.port), 1)


def is_served(scene: Any, port: int) -> bool:
    """Whether a new client gets its answer."""
    client = scene.connect()
    client.send(get(port, fields="Connection: close\r\n"))
    served = bool(client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 "))
    client.close()
    return served


def test_slow_clients(build: Any) -> None:
    """Heads that drip: gone in time with a 408, and nobody else waits for them."""
    with (
        build("*", RECORDS, EGRESS_HTTP_PROXY_HEAD_SECONDS="2") as scene,
        Recorder(scene.origin_socket(), answer_good) as server,
    ):
        slow = [scene.connect().sock for _ in range(200)]
        drip = get(server.port, fields="X: " + "y" * 500 + "\r\n")
        talks: list[Any] = []
        attack = threading.Thread(
            target=lambda: talks.extend(
                converse([(sock, drip) for sock in slow], limit_s=8, slice_bytes=1, every_s=0.2)
            )
        )
        attack.start()
        served, longest = 0, 0.0
        while attack.is_alive():
            started = time.monotonic()
            assert is_served(scene, server.port)
            longest = max(longest, time.monotonic() - started)
            served += 1
        attack.join()
        assert served > 50
        assert longest < 1
        assert {talk.data.split(b" ", 2)[1] for talk in talks} == {b"408"}
        assert max(talk.seconds for talk in talks) < 5


def test_few_descriptors(build: Any) -> None:
    """256 descriptors, 600 clients: those inside whole, others told, no spinning, recovery."""
    with build("*", RECORDS) as scene:
        scene.daemon.stop()
        limited = ("prlimit", "--nofile=256:256", *UNPRIVILEGED)
        environment = {"EGRESS_HTTP_PROXY_DESTINATION": "*"}
        scene.daemon = scene.lab.start_router(("http",), environment, wrap=limited)
        wait_until_ready(scene.lab, scene.daemon)
        with (
            Recorder(scene.origin_socket(), answer_good) as server,
            tunnels(scene, 20) as inside,
        ):
            crowd = [(scene.connect().sock, b"") for _ in range(600)]
            talks = converse(crowd, limit_s=1)
            told = sum(talk.data.startswith(b"HTTP/1.1 503 ") for talk in talks)
            waiting = sum(talk.end == "open" for talk in talks)
            assert told + waiting == 600
            assert 20 <= waiting <= 108
            before = cpu_s(scene.daemon.pid)
            time.sleep(1)  # what is measured is that nothing happens
            assert cpu_s(scene.daemon.pid) - before < 0.2
            assert all(map(carries, inside))
            for sock, _ in crowd:
                sock.close()
            assert wait_until(lambda: is_served(scene, server.port), 1)


def test_abandoned_at_any_point(build: Any) -> None:
    """Clients and servers that vanish anywhere in anything leave nothing behind."""
    chance = random.Random(3)  # noqa: S311 - to be the same each time

    def fickle(seen: bytes, answered: int) -> bytes | None:
        if b"\r\n\r\n" not in seen:
            return None
        part = GOOD[: chance.randrange(1, len(GOOD) + 1)]
        return part + (Recorder.CLOSE if chance.random() < 0.5 else b"")

    with (
        build("*", RECORDS) as scene,
        Recorder(scene.origin_socket(), fickle) as server,
    ):
        assert wait_until(lambda: sockets_of(scene.daemon.pid) > 0, 5)
        idle = sockets_of(scene.daemon.pid)
        target = f"allowed.test:{server.port}"
        whole = (
            get(server.port),
            f"POST http://{target}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n".encode()
            + b"z" * 50,
            f"POST http://{target}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n0\r\n\r\n".encode(),
            f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + b"\r\n\r\n" * 9,
            f"CONNECT nowhere.test:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            get(server.port, fields="Upgrade: websocket\r\nConnection: upgrade\r\n"),
        )
        for _ in range(400):
            client = scene.connect()
            request = chance.choice(whole)
            client.send(request[: chance.randrange(1, len(request) + 1)])
            match chance.randrange(4):
                case 0:
                    client.reset()
                case 1:
                    client.finish()
                case 2:
                    time.sleep(chance.random() / 100)  # somewhere in the middle of the answer
                    client.reset()
                case _:
                    client.close()
        scene.tidy()
        assert wait_until(lambda: sockets_of(scene.daemon.pid) <= idle, 5)
        assert not [
            line
            for line in scene.lines()
            if line["event"] in {"handler_failed", "loop_error", "task_failed", "library_message"}
        ]
        status = scene.lab.router(("status", "--json"), {}, wrap=UNPRIVILEGED)
        assert status.returncode == 0


def test_nothing_is_piled_up(build: Any) -> None:
    """Answers nobody reads, heads without end, chunks of one byte: memory stays where it was."""
    block = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + bytes(1 << 20)
    endless = b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20)
    with (
        build("*", RECORDS, EGRESS_HTTP_PROXY_BODY_SECONDS="2") as scene,
        Recorder(scene.origin_socket(), lambda _, n: bytes(1 << 20) if n else block) as big,
        Recorder(scene.origin_socket(), lambda _, n: None if n else endless) as bad,
    ):
        before = resident_bytes(scene.daemon.pid)
        deaf = [scene.connect() for _ in range(50)]
        for client in deaf:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(get(big.port))
        heads = [(scene.connect().sock, get(bad.port)) for _ in range(50)]
        talks = converse(heads, limit_s=5)
        assert {talk.data.split(b" ", 2)[1] for talk in talks} == {b"502"}
        tiny = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
        fields = "Transfer-Encoding: chunked\r\n"
        talks = converse([(scene.connect().sock, get(bad.port, fields=fields) + tiny)], limit_s=5)
        assert talks[0].data.startswith(b"HTTP/1.1 502 ")
        assert resident_bytes(scene.daemon.pid) - before < 20 << 20  # two buffers for each client
        ended = converse([(client.sock, b"") for client in deaf], limit_s=10)
        assert all(talk.end != "open" for talk in ended), "a client that does not read is let go"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_crowd_of_idle_tunnels(build: Any, full_size: bool, workers: str) -> None:
    """F6: new requests beside them are served, none closes early, everything is given back."""
    count = 5000 if full_size else 400
    with (
        build("*", RECORDS, EGRESS_WORKERS=workers) as scene,
        Recorder(scene.origin_socket(), answer_good) as server,
    ):
        first = scene.daemon.pid
        told = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii")
        pids = (first, *map(int, told.split()))
        assert len(pids) == int(workers)
        idle = sum(map(sockets_of, pids))
        with tunnels(scene, count) as inside:
            end = time.monotonic() + (10 if full_size else 2)
            took = []
            while time.monotonic() < end:
                started = time.monotonic()
                assert is_served(scene, server.port)
                took.append(time.monotonic() - started)
                time.sleep(max(0.0, started + 0.005 - time.monotonic()))  # 200 each second
            took.sort()
            assert took[len(took) * 99 // 100] < 0.25
            assert all(map(carries, inside)), "none was closed"
            scene.tidy()
        assert wait_until(lambda: sum(map(sockets_of, pids)) <= idle, 5)


def test_bulk_through_many_tunnels(build: Any, full_size: bool) -> None:
    """F5: through each tunnel both ways, byte for byte, memory flat, descriptors given back."""
    count, size = (200, 20 << 20) if full_size else (30, 1 << 20)
    pattern = random.Random(5).randbytes((1 << 20) + 256) * 2  # noqa: S311 - to be the same each time
    with build("*", RECORDS) as scene:
        idle = sockets_of(scene.daemon.pid)
        before = resident_bytes(scene.daemon.pid)
        listener = scene.origin_socket()
        listener.listen(256)
        connect = f"CONNECT allowed.test:{listener.getsockname()[1]} HTTP/1.1\r\nHost: x\r\n\r\n"
        pairs = []
        for _ in range(count):
            client = scene.connect()
            client.send(connect.encode())
            server, peer = listener.accept()
            assert ip_address(peer[0]) == ip_address("192.168.12.99")
            client.until(b"\r\n\r\n")
            pairs.append((client.sock, server))
        whole = pump(pairs, pattern, size)
        grown = resident_bytes(scene.daemon.pid) - before
        assert whole == 2 * count
        assert grown < 8 << 20
        for pair in pairs:
            for sock in pair:
                sock.close()
        listener.close()
        assert wait_until(lambda: sockets_of(scene.daemon.pid) <= idle, 5)


def pump(pairs: list[tuple[socket.socket, socket.socket]], pattern: bytes, size: int) -> int:
    """Sends a part of the pattern's run from every end; how many ends got exactly theirs."""
    import selectors  # noqa: PLC0415 - here alone

    view, period = memoryview(pattern), len(pattern) // 2
    ends = []
    with selectors.DefaultSelector() as selector:
        for number, pair in enumerate(pairs):
            for sock in pair:
                sock.setblocking(False)
                end = {"sock": sock, "at": number % 256, "sent": 0, "got": 0, "right": True}
                ends.append(end)
                selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, end)
        limit = time.monotonic() + max(30.0, size * len(pairs) / 20e6)
        while selector.get_map() and time.monotonic() < limit:
            for key, events in selector.select(1):
                end = key.data
                if events & selectors.EVENT_READ:
                    start = (end["at"] + end["got"]) % period
                    data = end["sock"].recv(1 << 18)
                    end["right"] &= bool(data) and data == view[start : start + len(data)]
                    end["got"] += len(data)
                if events & selectors.EVENT_WRITE and end["sent"] < size:
                    start = (end["at"] + end["sent"]) % period
                    part = view[start : start + min(1 << 18, size - end["sent"])]
                    end["sent"] += end["sock"].send(part)
                    if end["sent"] == size:
                        selector.modify(end["sock"], selectors.EVENT_READ, end)
                if not end["right"] or (end["got"] >= size and end["sent"] >= size):
                    selector.unregister(end["sock"])
    return sum(end["right"] and end["got"] == size == end["sent"] for end in ends)


def test_the_wire_reader_is_strict() -> None:
    """The reader that these tests trust refuses what two readers could read differently."""
    post = b"POST / HTTP/1.1\r\n"
    for torn in (
        post + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        post + b"Content-Length: +1\r\n\r\na",
        post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\n05\r\nhello\r\n0\r\n\r\n",
        post + b"X: y\nZ: w\r\n\r\n",
        post + b"X : y\r\n\r\n",
    ):
        with pytest.raises(ValueError, match=r"plain|framed|goes on"):
            read_messages(torn)
