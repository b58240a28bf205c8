"""Listening, admitting and shedding with real sockets and a real descriptor limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from egress_router.errors import KernelError
from egress_router.net.binding import Binding, Bound, open_listeners
from egress_router.net.listen import (
    ACCEPT_BATCH,
    ALONE_S,
    STAND_BACK_S,
    Admission,
    Listener,
    Loads,
    connection_limit,
)

LOCAL = Binding(addresses=(ip_address("127.0.0.1"),), port=0)


def binding(*addresses, port):
    return Binding(addresses=tuple(map(ip_address, addresses)), port=port)


@asynccontextmanager
async def listening(limit=1000, backlog_first=0):
    """A listener that keeps what it admits; `it.refused` are those above the limit."""
    sockets = open_listeners(LOCAL)
    it = SimpleNamespace(admitted=[], refused=[], address=sockets[0].getsockname())
    it.early = [socket.create_connection(it.address) for _ in range(backlog_first)]
    it.listener = Listener(
        Bound(sockets),
        Admission(limit),
        on_connection=lambda sock, peer: it.admitted.append((sock, peer)),
        on_excess=lambda sock, _: (it.refused.append(1), sock.close()),
        loop=asyncio.get_running_loop(),
    )
    it.listener.start()
    try:
        yield it
    finally:
        it.listener.close()
        for sock in (*it.early, *(sock for sock, _ in it.admitted)):
            sock.close()


async def until(condition, deadline_s=5.0):
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


def test_connections_come_with_their_peer(run):
    """A connection is handed over non-blocking, tuned, with the address it came from."""

    async def scene():
        async with listening() as it:
            with socket.create_connection(it.address) as client:
                await until(lambda: it.admitted)
                sock, peer = it.admitted[0]
                assert peer == client.getsockname()
                assert not sock.getblocking()
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    run(scene())


def test_above_the_limit_someone_else_decides(run):
    """B6-85: a connection above our own limit goes to the other callback and is counted."""

    async def scene():
        async with listening(limit=2) as it:
            it.early += [socket.create_connection(it.address) for _ in range(5)]
            await until(lambda: len(it.refused) == 3)
            assert len(it.admitted) == 2
            assert (it.listener.counts.accepted, it.listener.counts.excess) == (2, 3)
            it.listener._admission.release()
            it.early.append(socket.create_connection(it.address))
            await until(lambda: len(it.admitted) == 3)

    run(scene())


def test_burst_is_accepted_in_portions(run):
    """B6-84: between two portions of a burst everything else on the loop gets its turn."""

    async def scene():
        async with listening(backlog_first=8 * ACCEPT_BATCH) as it:
            steps = []
            while len(it.admitted) < 8 * ACCEPT_BATCH:
                await asyncio.sleep(0)
                steps.append(len(it.admitted))
            growth = [b - a for a, b in zip([0, *steps], steps, strict=False)]
            assert max(growth) == ACCEPT_BATCH

    run(scene())


def test_the_kernel_is_not_asked_in_vain_for_each(run):
    """Where connections come one by one, hardly any accept finds nothing."""

    class Counting(socket.SocketType):
        asked = 0

        def _accept(self):
            self.asked += 1
            return super()._accept()

    async def scene():
        (sock,) = open_listeners(LOCAL)
        counting = Counting(fileno=sock.detach())
        admitted = []
        listener = Listener(
            Bound((counting,)),
            Admission(1000),
            on_connection=lambda sock, _: admitted.append(sock),
            on_excess=lambda sock, _: sock.close(),
            loop=asyncio.get_running_loop(),
        )
        listener.start()
        clients = []
        for number in range(1, 41):
            clients.append(socket.create_connection(counting.getsockname()))
            await until(lambda number=number: len(admitted) == number)
        assert counting.asked <= 52
        listener.close()
        for one in (*clients, *admitted):
            one.close()

    run(scene())


def test_closing_takes_in_who_has_connected(run):
    """Those who were told that they are connected are served even if the listener ends now."""

    async def scene():
        async with listening(backlog_first=3) as it:
            it.listener.close()
            assert len(it.admitted) == 3
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(it.address)

    run(scene())


def test_what_fails_once_does_not_end_the_accepting(run):
    """A connection that nobody can make anything of costs no other one its place."""

    async def scene():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with sharing(limit=1) as it:
            for _ in range(2):
                it.connect()
            await until(lambda: len(it.admitted) == 2)
            for listener in it.listeners:
                listener._on_excess = fail_once(listener._on_excess)
            for _ in range(4):
                it.connect()
            await until(lambda: len(it.refused) == 2)
            assert len(it.admitted) == 2

    def fail_once(then):
        left = [1]

        def on_excess(*connection):
            if left:
                left.pop()
                connection[0].close()
                raise RuntimeError("what nobody expected")
            then(*connection)

        return on_excess

    run(scene())


@contextmanager
def few_descriptors(spare):
    """Lowers the soft limit so that only some more descriptors can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        top = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        with contextlib.suppress(OSError):
            while True:  # fill the holes: the limit is on numbers
                stack.callback(os.close, os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + spare, hard))
        yield


def test_out_of_descriptors_sheds_and_recovers(run):
    """B6-85: without descriptors new connections are closed, nothing spins, open ones live on."""

    async def scene():
        async with listening(backlog_first=1) as it:
            await until(lambda: it.admitted)
            clients = [socket.socket() for _ in range(60)]
            it.early += clients
            with few_descriptors(10):
                for client in clients:
                    client.setblocking(False)
                    client.connect_ex(it.address)
                await until(lambda: it.listener.counts.shed >= 45)
                busy = time.process_time()
                await asyncio.sleep(0.3)
                assert time.process_time() - busy < 0.1
                survivor, _ = it.admitted[0]
                survivor.send(b"still here")
                assert it.early[0].recv(20) == b"still here"
                counts = it.listener.counts
                assert counts.accepted + counts.shed == 61
                for sock, _ in it.admitted[1:]:
                    sock.close()
                del it.admitted[1:]
                started = time.monotonic()
                clients[0].close()
                with socket.socket() as late:
                    late.setblocking(False)
                    late.connect_ex(it.address)
                    await until(lambda: len(it.admitted) == 2)
                assert time.monotonic() - started < 1

    run(scene())


def test_no_descriptor_even_for_the_reserve_pauses(run):
    """B6-85: when someone else took the reserve accepting rests, does not spin, and resumes."""

    async def scene():
        async with listening() as it:
            client = socket.socket()
            it.early.append(client)
            client.setblocking(False)
            it.listener._give_up_reserve()
            taken = os.dup(0)
            with few_descriptors(0):
                client.connect_ex(it.address)
                await until(lambda: it.listener.counts.pauses >= 1)
                busy = time.process_time()
                await asyncio.sleep(0.5)
                assert time.process_time() - busy < 0.1
                assert it.listener.counts.pauses <= 4
                started = time.monotonic()
                os.close(taken)
                await until(lambda: it.admitted or it.listener.counts.shed)
                assert time.monotonic() - started < 1

    run(scene())


def test_port_in_use_is_named():
    """The error names address and port, and nothing stays open."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.2", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(KernelError, match=rf"listen on 127.0.0.2 port {port}.*EADDRINUSE"):
            open_listeners(binding("127.0.0.3", "127.0.0.2", port=port))
        with socket.socket() as free:
            free.bind(("127.0.0.3", port))


@pytest.mark.interpreted
def test_low_port_names_the_sysctl(monkeypatch):
    """A low port without the right to it names the sysctl that gives it."""

    class Unprivileged(socket.SocketType):
        def bind(self, *_):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("egress_router.net.endpoint._Socket", Unprivileged)
    with pytest.raises(KernelError, match=r"port 53.*net\.ipv4\.ip_unprivileged_port_start=0"):
        open_listeners(binding("127.0.0.1", port=53))


def test_both_families_listen_on_one_port():
    """`0.0.0.0` and `::` are two sockets that share a port; each takes its own family only."""
    first = open_listeners(binding("0.0.0.0", port=0))[0]
    port = first.getsockname()[1]
    first.close()
    sockets = open_listeners(binding("0.0.0.0", "::", port=port))
    try:
        assert [sock.family for sock in sockets] == [socket.AF_INET, socket.AF_INET6]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.interpreted
def test_kernel_without_ipv6_still_listens(monkeypatch):
    """Where there is no IPv6 the wildcard of it is passed over, a literal address is not."""
    real = socket.SocketType

    def no_ipv6(family, *rest):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr("egress_router.net.endpoint._Socket", no_ipv6)
    (sock,) = open_listeners(binding("127.0.0.1", "::", port=0))
    sock.close()
    with pytest.raises(KernelError):
        open_listeners(binding("127.0.0.1", "::1", port=0))


@contextmanager
def sharing(limit, loop=None):
    """Two listeners on the same sockets, of which the first always wakes up first."""
    sockets = open_listeners(LOCAL)
    twins = tuple(socket.SocketType(fileno=os.dup(sock.fileno())) for sock in sockets)
    counts = memoryview(bytearray(8)).cast("I")
    it = SimpleNamespace(
        address=sockets[0].getsockname(), clients=[], admitted=[], refused=[], listeners=[]
    )
    for number, some in enumerate((sockets, twins)):
        listener = Listener(
            Bound(some),
            Admission(limit, Loads(counts, number)),
            on_connection=lambda sock, _, number=number: it.admitted.append((number, sock)),
            on_excess=lambda sock, _: (it.refused.append(sock), sock.close()),
            loop=loop or asyncio.get_running_loop(),
        )
        listener.start()
        it.listeners.append(listener)
    it.connect = lambda: it.clients.append(socket.create_connection(it.address))
    it.spread = lambda: [[one for one, _ in it.admitted].count(number) for number in (0, 1)]
    try:
        yield it
    finally:
        for listener in it.listeners:
            listener.close()
        for sock in (*it.clients, *(sock for _, sock in it.admitted)):
            sock.close()


def test_what_is_beyond_our_limit_is_left_to_others(run):
    """Two that share a queue are both full before anybody is turned away."""

    async def scene():
        with sharing(limit=3) as it:
            for _ in range(6):
                it.connect()
            await until(lambda: len(it.admitted) == 6)
            assert it.spread() == [3, 3]
            assert not it.refused
            began = time.monotonic()
            for _ in range(20):
                it.connect()
            await until(lambda: len(it.refused) == 20)
            assert len(it.admitted) == 6
            assert time.monotonic() - began < 1
            assert sum(listener.counts.excess for listener in it.listeners) == 20

    run(scene())


def test_who_has_more_open_leaves_the_next_one_to_others(run):
    """Those that stay open are not all with the one that is quicker."""

    async def scene():
        with sharing(limit=1000) as it:
            for number in range(1, 41):
                it.connect()
                await until(lambda number=number: len(it.admitted) == number)
            assert min(it.spread()) >= 14

    run(scene())


def test_whoever_has_more_open_takes_what_nobody_else_does(run):
    """Another one that is busy, or hangs, costs a millisecond and no more."""

    async def scene():
        with sharing(limit=1000) as it:
            it.listeners.pop().close()
            began = time.monotonic()
            for number in range(1, 41):
                it.connect()
                await until(lambda number=number: len(it.admitted) == number)
            assert it.spread() == [40, 0]
            assert time.monotonic() - began < 1

    run(scene())


def test_what_nobody_took_shows_that_nobody_has_time(run):
    """One stand-back in vain is enough for a while: a busy daemon's connections do not all wait."""

    async def scene():
        loop, waits = asyncio.get_running_loop(), []
        counting = SimpleNamespace(
            add_reader=loop.add_reader,
            remove_reader=loop.remove_reader,
            call_later=lambda seconds, call: (
                waits.append(seconds),
                loop.call_later(seconds, call),
            )[1],
        )
        with sharing(limit=1000, loop=counting) as it:
            it.listeners.pop().close()
            for number in range(1, 13):
                it.connect()
                await until(lambda number=number: len(it.admitted) == number)
            assert waits.count(STAND_BACK_S) <= 2
            await asyncio.sleep(2 * ALONE_S)
            it.connect()
            await until(lambda: len(it.admitted) == 13)
            assert waits[-2:] == [STAND_BACK_S, ALONE_S]

    run(scene())


LIMITS = [
    pytest.param(1024, None, 352, id="usual-soft-limit"),
    pytest.param(20_000, None, 9840, id="large"),
    pytest.param(20_000, 500, 500, id="wanted-less"),
    pytest.param(1024, 500, 352, id="wanted-more"),
    pytest.param(64, None, 16, id="tiny"),
    pytest.param(0, None, 1, id="none"),
]


@pytest.mark.parametrize(("descriptors", "wanted", "expected"), LIMITS)
def test_connection_limit(descriptors, wanted, expected):
    """Two descriptors for each connection, some kept aside; a wish may only lower it."""
    assert connection_limit(descriptors, wanted) == expected
