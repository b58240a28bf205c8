"""One socket and the task that reads from it: no byte and no end of a peer may go unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from egress_router.net.stream import Stream
from tests.loopback.loops import connected_pair, polling, reset

SOON_S = 2.0


@contextlib.contextmanager
def streaming(buffer_bytes=None):
    """A stream and the socket of its peer."""
    near, far = connected_pair(buffer_bytes)
    with polling() as poller:
        stream = Stream(near, poller)
        try:
            yield stream, far
        finally:
            stream.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_reset_behind_bytes_is_noticed(run, when):
    """Bytes and a reset that come as one: the bytes are read, and then the end."""

    async def scene():
        with streaming() as (stream, far):
            if when == "before":
                far.send(b"some")
                reset(far)
            reading = asyncio.create_task(stream.read())
            if when == "meanwhile":
                await asyncio.sleep(0)
                far.send(b"some")
                reset(far)
            assert await asyncio.wait_for(reading, SOON_S) == b"some"
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(stream.read(), SOON_S) == b""

    run(scene())


def test_a_reset_behind_bytes_is_reported_unasked(run):
    """Who has read the bytes and is busy with them is told of the end all the same."""

    async def scene():
        with streaming() as (stream, far):
            told = asyncio.Event()
            stream.on_unasked = told.set
            far.send(b"some")
            reset(far)
            assert await stream.read() == b"some"
            stream.watch()
            await asyncio.wait_for(told.wait(), SOON_S)

    run(scene())


def test_what_comes_unasked_is_told_once_for_each_watch(run):
    """Bytes that nobody reads are reported, and again only when somebody watches again."""

    async def scene():
        with streaming() as (stream, far):
            told = asyncio.Event()
            stream.on_unasked = told.set
            stream.watch()
            far.send(b"one")
            await asyncio.wait_for(told.wait(), SOON_S)
            assert stream.read_now() == b"one"
            told.clear()
            far.send(b"two")
            assert await stream.read() == b"two"
            assert not told.is_set()
            stream.watch()
            far.close()
            await asyncio.wait_for(told.wait(), SOON_S)
            assert stream.read_now() == b""

    run(scene())


def test_what_a_slow_peer_takes_in_pieces_is_whole(run):
    """More than the kernel holds is handed over bit by bit, each byte once and in order."""
    sent = os.urandom(400_000)

    async def scene():
        with streaming(4096) as (stream, far), far:
            writing = asyncio.create_task(stream.write(sent))
            got = bytearray()
            while len(got) < len(sent):
                got += await asyncio.get_running_loop().sock_recv(far, 3000)
            await asyncio.wait_for(writing, SOON_S)
            assert got == sent
            with pytest.raises(BlockingIOError):
                far.recv(1)

    run(scene())
