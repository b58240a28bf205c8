"""Pipes that are lent out: few large ones, more of the usual size, and an upper bound."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from egress_router.net import pipes
from egress_router.net.pipes import LARGE_BYTES, LARGE_MAX, PIPE_BYTES, PipePool

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def pool():
    """An empty pool, whose pipes are closed behind it."""
    before = len(tuple(DESCRIPTORS.iterdir()))
    made = PipePool(limit=LARGE_MAX + 4)
    yield made
    made.close()
    assert len(tuple(DESCRIPTORS.iterdir())) == before


def test_the_first_pipes_are_large(pool):
    """Up to their number; then come pipes of the usual size, then none."""
    lent = [pool.take() for _ in range(LARGE_MAX + 4)]
    assert pool.take() is None
    for pipe in lent:
        assert fcntl.fcntl(pipe.read, fcntl.F_GETPIPE_SZ) == pipe.size
    assert [pipe.size for pipe in lent] == [LARGE_BYTES] * LARGE_MAX + [PIPE_BYTES] * 4
    for pipe in lent:
        pool.give(pipe, empty=True)
    assert pool.lent == 0


def test_a_large_pipe_is_lent_before_a_small_one(pool):
    """Whatever the order in which they came back."""
    lent = [pool.take() for _ in range(LARGE_MAX + 2)]
    for pipe in (lent[0], lent[-1], lent[1], lent[-2]):
        pool.give(pipe, empty=True)
    again = [pool.take() for _ in range(4)]
    assert [pipe.size for pipe in again] == [LARGE_BYTES] * 2 + [PIPE_BYTES] * 2
    for pipe in (*again, *lent[2:-2]):
        pool.give(pipe, empty=True)


def test_a_pipe_that_holds_bytes_is_not_lent_again(pool):
    """Nobody gets the bytes of another connection; a new large pipe takes its place."""
    pipe = pool.take()
    os.write(pipe.write, b"of another connection")
    pool.give(pipe, empty=False)
    again = pool.take()
    assert again.size == LARGE_BYTES
    with pytest.raises(BlockingIOError):
        os.read(again.read, 1)
    pool.give(again, empty=True)


def test_without_a_share_of_large_pipes_the_usual_size_serves(pool, monkeypatch):
    """The kernel may refuse: pipes of all daemons of a user count together."""

    def refuse(*_):
        raise PermissionError("pipe-user-pages-soft")

    monkeypatch.setattr(pipes.fcntl, "fcntl", refuse)
    pipe = pool.take()
    assert pipe.size == PIPE_BYTES
    os.write(pipe.write, b"x")
    assert os.read(pipe.read, 1) == b"x"
    pool.give(pipe, empty=True)
    assert pool.take() is pipe, "it is used again"
    pool.give(pipe, empty=True)
