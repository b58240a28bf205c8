"""What dial, relay and listener cost: bulk bytes, connections, memory of an idle tunnel.

`python bench/relay.py [--seconds 3] [--idle 1000 5000]` runs on loopback alone and ends by itself.
Each peer is a process of its own: origin, client (this one), and the forwarder under test. Where
HAProxy is installed it is measured in the same run, in TCP mode with one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path

import uvloop

from egress_router.net.binding import Binding, Bound, open_listeners
from egress_router.net.dial import Dialler
from egress_router.net.dial_errors import DialError
from egress_router.net.egress import Egress
from egress_router.net.health import Health
from egress_router.net.listen import Admission, Listener
from egress_router.net.poller import Poller
from egress_router.net.relay import Carrier

HOST = "127.0.77.1"
BULK, ECHO = b"B", b"E"
CHUNK_BYTES = 1 << 20
STREAMS = 4  # parallel bulk connections
CALLERS = 64  # connections under way at once in the connection test

HAPROXY = """
global
  maxconn 6000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  {splice}
frontend front
  bind {host}:{port}
  default_backend back
backend back
  server origin {host}:{origin}
"""


async def serve_origin(port: int) -> None:
    """`B`: sends zeros until hung up on. `E`: sends one byte back and waits for the end."""
    loop = asyncio.get_running_loop()
    memory = os.memfd_create("zeros")
    os.truncate(memory, CHUNK_BYTES)

    async def answer(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if await loop.sock_recv(sock, 1) == ECHO:
                await loop.sock_sendall(sock, ECHO)
                await loop.sock_recv(sock, 1)
                return
            while True:
                try:
                    os.sendfile(sock.fileno(), memory, 0, CHUNK_BYTES)
                except BlockingIOError:
                    await writable(sock)

    listener = Listener(
        Bound(open_listeners(Binding(addresses=(ip_address(HOST),), port=port))),
        Admission(sys.maxsize),
        on_connection=lambda sock, _: keep(loop.create_task(answer(sock))),
        on_excess=lambda sock, _: sock.close(),
        loop=loop,
    )
    listener.start()
    await asyncio.Event().wait()


async def serve_forwarder(port: int, origin: int) -> None:
    """The least that a mode does: accept, dial, relay."""
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    carrier, dialler = Carrier(poller), Dialler(poller=poller, health=Health())
    egress = Egress(source4=ip_address("127.0.0.1"))
    target = (ip_address(HOST),)
    admission = Admission(12_000)

    async def forward(client: socket.socket) -> None:
        try:
            upstream = await dialler.dial(target, origin, egress)
        except DialError:
            client.close()
            admission.release()
            return
        carrier.carry(client, upstream, lambda _: admission.release())

    listener = Listener(
        Bound(open_listeners(Binding(addresses=(ip_address(HOST),), port=port))),
        admission,
        on_connection=lambda sock, _: keep(loop.create_task(forward(sock))),
        on_excess=lambda sock, _: sock.close(),
        loop=loop,
    )
    listener.start()
    await asyncio.Event().wait()


TASKS: set[asyncio.Task[None]] = set()


def keep(task: asyncio.Task[None]) -> None:
    """Holds a task until it is done."""
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)


async def writable(sock: socket.socket) -> None:
    """Waits until the socket takes bytes."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(sock.fileno(), ready.set_result, None)
    await ready
    loop.remove_writer(sock.fileno())


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bulk(port: int, seconds: float) -> float:
    """GB/s over some connections; MSG_TRUNC drops the bytes so that the client costs little."""
    socks = [socket.create_connection((HOST, port)) for _ in range(STREAMS)]
    for sock in socks:
        sock.send(BULK)
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in socks:
            total += len_dropped(sock)
    for sock in socks:
        sock.close()
    return total / seconds / 1e9


SINK = bytearray(CHUNK_BYTES)


def len_dropped(sock: socket.socket) -> int:
    """How many bytes were there, up to a megabyte."""
    return sock.recv_into(SINK, CHUNK_BYTES, socket.MSG_TRUNC)


async def connects(port: int, seconds: float) -> float:
    """Connections a second, each with one byte there and back."""
    loop = asyncio.get_running_loop()
    done = 0
    end = time.monotonic() + seconds

    async def call() -> None:
        nonlocal done
        while time.monotonic() < end:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, (HOST, port))
                await loop.sock_sendall(sock, ECHO)
                if await loop.sock_recv(sock, 1) != ECHO:
                    raise RuntimeError("the byte did not come back")
            done += 1

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return done / seconds


def idle(port: int, pid: int, counts: list[int]) -> list[tuple[int, float]]:
    """Bytes of resident memory for each idle tunnel that has carried a byte each way."""
    socks: list[socket.socket] = []
    before, found = rss_bytes(pid), []
    for count in counts:
        while len(socks) < count:
            sock = socket.create_connection((HOST, port))
            sock.send(ECHO)
            if sock.recv(1) != ECHO:
                raise RuntimeError("the byte did not come back")
            socks.append(sock)
        found.append((count, (rss_bytes(pid) - before) / count))
    for sock in socks:
        sock.close()
    return found


def start(*command: str, port: int) -> subprocess.Popen[bytes]:
    """Starts a peer and waits until it listens."""
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((HOST, port)).close()
            return process
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"{command} does not listen")


def measure(
    name: str, port: int, process: subprocess.Popen[bytes], options: argparse.Namespace
) -> None:
    """Prints one line for each figure of one forwarder."""
    memory = idle(port, process.pid, options.idle)
    time.sleep(0.5)
    before = cpu_s(process.pid)
    rate = uvloop.run(connects(port, options.seconds))
    spent = cpu_s(process.pid) - before
    print(
        f"{name:18} {rate:7.0f} connects/s, {spent:.2f} s CPU in {options.seconds:g} s, "
        f"{rate * options.seconds / max(spent, 0.01):7.0f} connects for each CPU second"
    )
    time.sleep(0.5)
    before = cpu_s(process.pid)
    speed = bulk(port, options.seconds)
    spent = cpu_s(process.pid) - before
    print(
        f"{name:18} {speed:7.2f} GB/s, {spent:.2f} s CPU in {options.seconds:g} s, "
        f"{spent / (speed * options.seconds):7.2f} CPU seconds for each GB"
    )
    for count, each in memory:
        print(f"{name:18} {each:7.0f} bytes resident for each of {count} idle tunnels")


def main() -> None:
    """Runs the peers, one forwarder after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--idle", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--serve", nargs="*", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        uvloop.run(
            serve_origin(*options.serve)
            if len(options.serve) == 1
            else serve_forwarder(*options.serve)
        )
        return
    origin, ours, theirs = 18100, 18101, 18102
    me = (sys.executable, __file__, "--serve")
    with contextlib.ExitStack() as stack:

        def started(*command: str, port: int) -> subprocess.Popen[bytes]:
            process = start(*command, port=port)
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGKILL)
            return process

        direct = started(*me, str(origin), port=origin)
        speed = bulk(origin, options.seconds)
        rate = uvloop.run(connects(origin, options.seconds))
        print(f"{'no forwarder':18} {rate:7.0f} connects/s, {speed:.2f} GB/s")
        measure("egress router", ours, started(*me, str(ours), str(origin), port=ours), options)
        if haproxy := shutil.which("haproxy"):
            for name, splice in (("haproxy", ""), ("haproxy splice", "option splice-auto")):
                theirs += 1
                file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".cfg"))
                file.write(HAPROXY.format(host=HOST, port=theirs, origin=origin, splice=splice))
                file.flush()
                measure(name, theirs, started(haproxy, "-f", file.name, port=theirs), options)
        print(f"{'origin':18} {cpu_s(direct.pid):.2f} s CPU in all")


if __name__ == "__main__":
    main()
