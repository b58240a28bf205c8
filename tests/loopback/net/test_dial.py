"""Dialling real sockets on loopback; a full backlog plays the blackhole."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from egress_router.net.dial import Dialler, DialLimits
from egress_router.net.dial_errors import DialCause, DialError
from egress_router.net.egress import Egress
from egress_router.net.health import Health
from tests.loopback.loops import polling

LOOPBACK = Egress(source4=ip_address("127.0.0.1"), source6=ip_address("::1"))
SELF = Path("/proc/self/fd")
QUICK = DialLimits(stagger_s=0.1, dial_s=0.6)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def addresses(*texts):
    return tuple(map(ip_address, texts))


@contextmanager
def peers(*, alive=(), blackholes=(), dead=()):
    """Addresses that share one port: listening, silent (backlog full), or refusing."""
    with ExitStack() as stack:
        port = 0
        for text in (*alive, *blackholes):
            sock = stack.enter_context(
                socket.socket(socket.AF_INET6 if ":" in text else socket.AF_INET)
            )
            sock.bind((text, port))
            sock.listen(64 if text in alive else 0)
            port = sock.getsockname()[1]
            for _ in range(0 if text in alive else 3):
                filler = stack.enter_context(socket.socket(sock.family))
                filler.setblocking(False)
                filler.connect_ex((text, port))
        if not port:
            with socket.socket() as sock:
                sock.bind((dead[0], 0))
                port = sock.getsockname()[1]
        yield port


async def dialled(*texts, port, health=None, limits=QUICK, egress=LOOPBACK):
    started = time.monotonic()
    with polling() as poller:
        dialler = Dialler(poller=poller, health=health or Health(), limits=limits)
        sock = await dialler.dial(addresses(*texts), port, egress)
    with contextlib.closing(sock):
        return SimpleNamespace(
            peer=sock.getpeername()[0],
            source=sock.getsockname()[0],
            took_s=time.monotonic() - started,
            options={
                name: sock.getsockopt(level, getattr(socket, name))
                for level, name in (
                    (socket.IPPROTO_TCP, "TCP_NODELAY"),
                    (socket.SOL_SOCKET, "SO_OOBINLINE"),
                )
            },
            device=sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0"),
            blocking=sock.getblocking(),
        )


async def cause_of(*texts, **kwargs):
    with pytest.raises(DialError) as caught:
        await dialled(*texts, **kwargs)
    return caught.value.cause


def test_connection_is_bound_and_tuned(run):
    """The result leaves from the source and link that were asked for, without delay."""

    async def scene():
        egress = Egress(source4=ip_address("127.0.0.9"), link="lo")
        with peers(alive=["127.0.2.1"]) as port:
            done = await dialled("127.0.2.1", port=port, egress=egress)
        assert (done.peer, done.source, done.device) == ("127.0.2.1", "127.0.0.9", b"lo")
        assert list(done.options.values()) == [1, 1]
        assert not done.blocking

    run(scene())


def test_ipv6_is_bound_too(run):
    """The same over IPv6."""

    async def scene():
        with peers(alive=["::1"]) as port:
            done = await dialled("::1", port=port, egress=Egress(source6=ip_address("::1")))
        assert (done.peer, done.source) == ("::1", "::1")

    run(scene())


def test_refused_is_known_at_once(run):
    """B6-86: a refusal ends the dial within 50 ms, and moves on to the next address at once."""

    async def scene():
        with peers(dead=["127.0.2.1"]) as port:
            took_s = []
            for _ in range(5):  # the machine may be busy in some of them
                started = time.monotonic()
                assert await cause_of("127.0.2.1", port=port) == DialCause.REFUSED
                took_s.append(time.monotonic() - started)
            assert min(took_s) < 0.05
        with peers(alive=["127.0.2.2"]) as port:
            done = [await dialled("127.0.2.1", "127.0.2.2", port=port) for _ in range(5)]
            assert {one.peer for one in done} == {"127.0.2.2"}
            assert min(one.took_s for one in done) < 0.05

    run(scene())


def test_blackhole_times_out(run):
    """B6-86: no answer from anywhere ends the dial when its time is up."""

    async def scene():
        with peers(blackholes=["127.0.2.1", "127.0.2.2"]) as port:
            started = time.monotonic()
            cause = await cause_of("127.0.2.1", "127.0.2.2", port=port)
            assert cause == DialCause.TIMED_OUT
            assert 0.6 <= time.monotonic() - started < 1.2

    run(scene())


def test_unreachable_is_not_a_timeout(run):
    """B6-86: an address that routing knows no way to is told apart."""

    async def scene():
        egress = Egress(source4=ip_address("127.0.0.1"), link="lo")
        assert await cause_of("192.0.2.1", port=9, egress=egress) in {
            DialCause.UNREACHABLE,
            DialCause.TIMED_OUT,
        }
        broadcast = await cause_of("255.255.255.255", port=9, egress=LOOPBACK)
        assert broadcast == DialCause.UNREACHABLE

    run(scene())


LOST = [
    pytest.param(Egress(source4=ip_address("127.0.0.1"), link="gone0"), id="no-link"),
    pytest.param(Egress(source4=ip_address("192.0.2.77")), id="no-address"),
]


@pytest.mark.parametrize("egress", LOST)
def test_lost_link_or_source_is_our_fault(run, egress):
    """Without its link or source nothing is dialled, and the address is not blamed for it."""

    async def scene():
        health = Health()
        with peers(alive=["127.0.2.1"]) as port:
            cause = await cause_of("127.0.2.1", port=port, egress=egress, health=health)
        assert cause == DialCause.LINK_DOWN
        assert health.avoided() == ()

    run(scene())


def test_family_without_source_is_left_out(run):
    """B5-74: IPv6 addresses are not tried when the router has no IPv6 source."""

    async def scene():
        egress = Egress(source4=ip_address("127.0.0.1"))
        with peers(alive=["127.0.2.1", "::1"]) as port:
            assert (await dialled("::1", "127.0.2.1", port=port, egress=egress)).peer == "127.0.2.1"
            assert await cause_of("::1", port=port, egress=egress) == DialCause.NO_SOURCE

    run(scene())


@pytest.mark.interpreted
def test_out_of_descriptors_is_our_fault(run, monkeypatch):
    """A dial that gets no socket says so, and does not blame the address."""

    async def scene():
        def no_socket(*_, **__):
            raise OSError(24, "Too many open files")

        health = Health()
        monkeypatch.setattr("egress_router.net.endpoint._Socket", no_socket)
        assert await cause_of("127.0.2.1", port=9, health=health) == DialCause.EXHAUSTED
        monkeypatch.undo()
        assert health.avoided() == ()

    run(scene())


def test_blackholed_family_costs_one_stagger(run):
    """B5-74: when one family answers nothing the other is tried 250 ms later, and wins."""

    async def scene():
        with peers(alive=["127.0.2.1"], blackholes=["::1"]) as port:
            done = await dialled("::1", "127.0.2.1", port=port)
            assert done.peer == "127.0.2.1"
            assert 0.099 <= done.took_s < 0.4  # a loop counts whole milliseconds

    run(scene())


def test_thirty_addresses_one_dead_each_tried_once(run):
    """B5-75: every address is tried once, a dead one is remembered for 30 s and comes last."""

    async def scene():
        clock = Clock()
        health = Health(clock)
        texts = [f"127.0.2.{number}" for number in range(1, 31)]
        with peers(alive=texts[20:], blackholes=texts[:1]) as port:
            done = await dialled(*texts, port=port, health=health)
            assert done.peer == texts[20]
            assert done.took_s < 0.1 + 0.3
            avoided = {str(address) for address, _ in health.avoided()}
            assert avoided == set(texts[:20])
            again = [await dialled(texts[0], texts[20], port=port, health=health) for _ in range(5)]
            assert {one.peer for one in again} == {texts[20]}
            assert min(one.took_s for one in again) < 0.05
            clock.now += 31
            first = await dialled(texts[0], texts[20], port=port, health=health)
            assert first.took_s > 0.05
        assert await cause_of(*texts, port=port) == DialCause.REFUSED

    run(scene())


def test_tries_are_limited(run):
    """B6-86: with a limit on tries, only that many addresses are troubled."""

    async def scene():
        texts = [f"127.0.2.{number}" for number in range(1, 6)]
        with peers(dead=texts) as port, pytest.raises(DialError) as caught:
            await dialled(*texts, port=port, limits=DialLimits(tries=3))
        assert [str(failure.address) for failure in caught.value.failures] == texts[:3]

    run(scene())


def test_losers_are_closed(run):
    """The winner is the only socket that is left of a race."""

    async def scene():
        with peers(alive=["127.0.2.9"], blackholes=["127.0.2.1", "127.0.2.2"]) as port:
            before = descriptors()
            await dialled("127.0.2.1", "127.0.2.2", "127.0.2.9", port=port)
            assert descriptors() == before

    run(scene())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 8])
def test_cancelled_dial_leaves_no_socket(run, turns):
    """Wherever a dial is cancelled, even with its connection made, nothing stays open."""

    async def scene():
        with peers(alive=["127.0.2.9"], blackholes=["127.0.2.1"]) as port:
            await asyncio.sleep(0)
            before = descriptors()
            for texts in (["127.0.2.9"], ["127.0.2.1"], ["127.0.2.1", "127.0.2.9"]):
                task = asyncio.create_task(dialled_open(*texts, port=port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    (await task).close()
                assert descriptors() == before

    run(scene())


def test_cancelled_in_the_moment_of_winning(run):
    """A dial whose connection was made but not yet handed over closes it when cancelled."""

    async def scene():
        with peers(alive=["127.0.2.9"]) as port:
            before = descriptors()
            task = asyncio.create_task(dialled_open("127.0.2.9", port=port))
            await asyncio.sleep(0)
            # The loop learns of the connection in this turn; the task would run in the next.
            asyncio.get_running_loop().call_later(0.02, task.cancel)
            time.sleep(0.05)  # noqa: ASYNC251 -- both things must be due in one turn
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()
            assert descriptors() == before

    run(scene())


async def dialled_open(*texts, port):
    with polling() as poller:
        dialler = Dialler(poller=poller, health=Health(), limits=QUICK)
        return await dialler.dial(addresses(*texts), port, LOOPBACK)


def descriptors():
    gc.collect()  # what earlier tests left to the collector is not ours
    return set(SELF.iterdir()) - {SELF / str(_probe())}


def _probe():
    # Listing takes a descriptor of its own: the lowest free number.
    descriptor = os.open(SELF, os.O_RDONLY)
    os.close(descriptor)
    return descriptor
