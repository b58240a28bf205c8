"""The poller: every edge reaches the owner of its time, and nobody else."""

from __future__ import annotations

import asyncio
import os
import select
import socket

import pytest

from egress_router.net.poller import READABLE, WRITABLE, Poller, Watcher
from tests.loopback.loops import LOOPS, connected_pair, polling, run_on

pytestmark = pytest.mark.interpreted


@pytest.fixture(params=sorted(LOOPS))
def run(request):
    """Runs a scene on each event loop."""
    return lambda coroutine: run_on(request.param, coroutine)


class Heard(Watcher):
    """Keeps what it was told."""

    def __init__(self):
        self.events = []

    def on_edge(self, _descriptor, events):
        self.events.append(events)


class Calling(Watcher):
    """Has a function called."""

    def __init__(self, call):
        self.on_edge = call


def pair_numbered(number):
    """A connected pair whose first end has a descriptor that is free."""
    near, far = connected_pair()
    os.dup2(near.fileno(), number)
    near.close()
    return socket.socket(fileno=number), far


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0.002)


def test_each_edge_is_told_once(run):
    """Bytes that stay unread are told once; more bytes are told again."""

    async def scene():
        near, far = connected_pair()
        heard = Heard()
        with polling() as poller, near, far:
            poller.watch(near.fileno(), heard)
            await turns()
            assert heard.events == [select.EPOLLOUT]
            for _ in range(2):
                far.send(b"x")
                await turns()
            assert len(heard.events) == 3
            assert all(events & READABLE for events in heard.events[1:])
            assert all(events & WRITABLE for events in heard.events)

    run(scene())


def test_what_is_passed_on_is_told_nothing_again(run):
    """Who takes over a socket that has been read out hears of new bytes alone."""

    async def scene():
        near, far = connected_pair()
        first, second = Heard(), Heard()
        with polling() as poller, near, far:
            poller.watch(near.fileno(), first)
            await turns()
            poller.watch(near.fileno(), second, read_out=True)
            await turns()
            assert second.events == []
            far.send(b"x")
            await turns()
            assert len(first.events) == 1
            assert [bool(events & READABLE) for events in second.events] == [True]

    run(scene())


def test_passing_on_what_nobody_watched_begins_to_watch(run):
    """A socket that is new to the poller is told of as by `watch`."""

    async def scene():
        near, far = connected_pair()
        heard = Heard()
        with polling() as poller, near, far:
            far.send(b"x")
            poller.watch(near.fileno(), heard, read_out=True)
            await turns()
            assert [bool(events & READABLE) for events in heard.events] == [True]

    run(scene())


def test_a_new_owner_is_told_what_is_the_case(run):
    """Who takes a socket over hears of bytes that were told to the owner before."""

    async def scene():
        near, far = connected_pair()
        first, second = Heard(), Heard()
        with polling() as poller, near, far:
            poller.watch(near.fileno(), first)
            far.send(b"x")
            await turns()
            told = len(first.events)
            poller.watch(near.fileno(), second)
            await turns()
            assert second.events
            assert second.events[0] & READABLE
            assert len(first.events) == told
            assert len(poller) == 1
            poller.forget(near.fileno())
            assert len(poller) == 0

    run(scene())


def test_a_reused_number_brings_no_edge_of_its_forerunner(run):
    """A socket made in the turn in which its number became free hears nothing of the old one."""

    async def scene():
        first, first_far = connected_pair()
        second, second_far = connected_pair()
        heard, made = Heard(), []
        with polling() as poller:

            def replace(descriptor, events):
                """The first of two edges of one turn: closes the other socket, takes its number."""
                if made or not events & READABLE:
                    return
                other = second if descriptor == first.fileno() else first
                number = other.fileno()
                poller.forget(number)
                other.close()
                made.extend(pair_numbered(number))
                poller.watch(number, heard)

            watcher = Calling(replace)
            poller.watch(first.fileno(), watcher)
            poller.watch(second.fileno(), watcher)
            await turns()
            # Both ends at once, so that both edges come in one turn; an end would be READABLE.
            first_far.send(b"x")
            second_far.send(b"x")
            await turns()
            assert made
            assert heard.events == [select.EPOLLOUT]
        for sock in (first, first_far, second, second_far, *made):
            sock.close()

    run(scene())


def test_a_socket_closed_without_a_word(run):
    """The number of a socket that was closed unforgotten serves its next owner all the same."""

    async def scene():
        near, far = connected_pair()
        heard = Heard()
        with polling() as poller:
            number = near.fileno()
            poller.watch(number, Heard())
            near.close()
            again, peer = pair_numbered(number)
            poller.watch(number, heard)
            peer.send(b"x")
            await turns()
            assert any(events & select.EPOLLIN for events in heard.events)
            for sock in (far, again, peer):
                sock.close()

    run(scene())


def test_a_watcher_that_raises_concerns_nobody_else(run):
    """Its error goes to the loop's handler; the next socket of the same turn is served."""

    async def scene():
        loop = asyncio.get_running_loop()
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        heard = Heard()
        pairs = [connected_pair() for _ in range(3)]

        def fail(_descriptor, _events):
            raise ValueError("of this socket alone")

        with polling() as poller:
            watchers = (Calling(fail), heard, Calling(fail))
            for (near, _), watcher in zip(pairs, watchers, strict=True):
                poller.watch(near.fileno(), watcher)
            await turns()
            assert len(heard.events) == 1
            assert [str(error) for error in reported] == ["of this socket alone"] * 2
        for pair in pairs:
            for sock in pair:
                sock.close()

    run(scene())


def test_what_cannot_be_watched_is_not_kept(run):
    """A descriptor that the kernel refuses raises, and leaves nothing behind."""

    async def scene():
        with polling() as poller:
            with pytest.raises(OSError, match="Bad file descriptor"):
                poller.watch(1 << 20, Heard())
            assert len(poller) == 0

    run(scene())


def test_closing_ends_the_watch():
    """After `close` the event loop has nothing left to look at."""

    async def scene():
        poller = Poller(asyncio.get_running_loop())
        near, far = connected_pair()
        heard = Heard()
        poller.watch(near.fileno(), heard)
        poller.close()
        far.send(b"x")
        await turns()
        assert not heard.events
        near.close()
        far.close()

    run_on("asyncio", scene())
