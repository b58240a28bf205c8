"""Load that nothing in Debian makes: tunnels by CONNECT, opened, filled and held (for bench.http).

`python http_load.py serve PORT`, or `connect|bulk|hold PROXY PORT TARGET …`; one process each.
Results are JSON lines, with the processor time that this process itself has used for them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import time
from typing import Any

BULK, HOLD = b"B", b"H"
CHUNK_BYTES = 1 << 20
LIMIT_S = 20.0
REQUEST = b"GET /small HTTP/1.0\r\nHost: x\r\n\r\n"


def serve(port: int) -> None:
    """`B`: zeros until hung up on. `H`: one byte back, then nothing."""
    memory = os.memfd_create("zeros")
    os.truncate(memory, CHUNK_BYTES)
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    bulk: set[int] = set()
    print("ready", flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock = listener.accept()[0]
                        sock.setblocking(False)
                        peers[sock.fileno()] = sock
                        poll.register(sock, select.EPOLLIN)
                continue
            sock = peers[descriptor]
            try:
                if descriptor in bulk:
                    os.sendfile(descriptor, memory, 0, CHUNK_BYTES)
                    continue
                first = sock.recv(1)
                if first == BULK:
                    bulk.add(descriptor)
                    poll.modify(sock, select.EPOLLOUT)
                    continue
                if first:
                    sock.send(first)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            poll.unregister(sock)
            bulk.discard(descriptor)
            peers.pop(descriptor).close()


def connect_rate(proxy: tuple[str, int], target: str, seconds: float, callers: int) -> None:
    """Tunnels a second, each with a request and its answer, and how long each took."""
    opening = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
    poll = select.epoll()
    open_now: dict[int, list[Any]] = {}
    took: list[float] = []
    failed = 0

    def start() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(proxy)
        poll.register(sock, select.EPOLLOUT)
        open_now[sock.fileno()] = [sock, time.monotonic(), False]

    started = time.monotonic()
    for _ in range(callers):
        start()
    while (now := time.monotonic()) < started + seconds:
        for descriptor, _ in poll.poll(0.1):
            state = open_now[descriptor]
            sock = state[0]
            try:
                if state[2] is False:
                    sock.send(opening)
                    poll.modify(sock, select.EPOLLIN)
                    state[2] = True
                    continue
                data = sock.recv(65536)
            except OSError:
                data = b""
            if data and state[2] is True:
                if data.startswith(b"HTTP/1.") and data[9:12] == b"200":
                    sock.send(REQUEST)
                    state[2] = None
                    continue
                data = b""
                failed += 1
            elif data:
                continue
            else:
                took.append(time.monotonic() - state[1])
                failed += state[2] is not None
            del open_now[descriptor]
            sock.close()
            start()
    report(rate=(len(took) - failed) / (now - started), failed=failed, **quantiles(took))


def opened(proxy: tuple[str, int], target: str, first: bytes) -> socket.socket:
    """A tunnel, with its first byte sent."""
    sock = socket.create_connection(proxy, timeout=LIMIT_S)
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(answer) > CHUNK_BYTES:
            raise RuntimeError(f"no tunnel: {answer!r}")
        answer += byte
    if answer[9:12] != b"200":
        raise RuntimeError(f"no tunnel: {answer!r}")
    sock.sendall(first)
    return sock


def bulk_rate(proxy: tuple[str, int], target: str, seconds: float, streams: int) -> None:
    """Bytes a second over some tunnels; MSG_TRUNC drops them, so that this end costs little."""
    sink = bytearray(CHUNK_BYTES)
    poll = select.epoll()
    socks = {}
    for _ in range(streams):
        sock = opened(proxy, target, BULK)
        sock.setblocking(False)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    total, started = 0, time.monotonic()
    while (now := time.monotonic()) < started + seconds:
        for descriptor, _ in poll.poll(0.1):
            with contextlib.suppress(BlockingIOError):
                total += socks[descriptor].recv_into(sink, CHUNK_BYTES, socket.MSG_TRUNC)
    report(rate=total / (now - started))


def hold(proxy: tuple[str, int], target: str, counts: list[int], pause_s: float) -> None:
    """Opens tunnels and says so at each count; each has carried a byte both ways."""
    socks: list[socket.socket] = []
    for count in counts:
        while len(socks) < count:
            sock = opened(proxy, target, HOLD)
            if sock.recv(1) != HOLD:
                raise RuntimeError("the byte did not come back")
            socks.append(sock)
        print(f"held {count} tunnels", flush=True)
        time.sleep(pause_s)


def quantiles(took: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    took = sorted(took) or [0.0]
    return {"p50": took[len(took) // 2] * 1e3, "p99": took[len(took) * 99 // 100] * 1e3}


def report(**values: float) -> None:
    """One JSON line."""
    used = os.times()
    print(json.dumps({**values, "own_cpu_s": used.user + used.system}), flush=True)


def main() -> None:
    """Reads what to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["serve", "connect", "bulk", "hold"])
    parser.add_argument("rest", nargs="*", help="PORT, or PROXY PORT TARGET")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000])
    options = parser.parse_args()
    if options.what == "serve":
        serve(int(options.rest[0]))
        return
    proxy, target = (options.rest[0], int(options.rest[1])), options.rest[2]
    if options.what == "connect":
        connect_rate(proxy, target, options.seconds, options.at_once)
    elif options.what == "bulk":
        bulk_rate(proxy, target, options.seconds, options.at_once)
    else:
        hold(proxy, target, options.counts, options.seconds)


if __name__ == "__main__":
    main()
