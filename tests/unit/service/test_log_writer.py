"""Lines on their way out, with pipes that a test blocks, reads and closes."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from egress_router.service.log_writer import DirectWriter, QueueWriter, WriteLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 5.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: the end to read and the end to write."""
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


def lost(count: int) -> str:
    """The notice of lost lines."""
    return f"lost {count}\n"


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits, with a deadline, for what another thread does."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    """All lines are written, in order, and are there when close returns."""
    writer = QueueWriter(pipe[1], lost)
    for number in range(1000):
        writer.put(f"{number}\n")
    writer.close(DEADLINE_S)
    assert os.read(pipe[0], 65536).decode().split() == [str(n) for n in range(1000)]
    assert writer.dropped == 0


def test_a_blocked_pipe_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    """Callers never wait; each line either comes out or is counted where it is missing."""
    writer = QueueWriter(pipe[1], lost, limit=100_000)
    line = "x" * 999 + "\n"
    before = time.monotonic()
    for _ in range(500):
        writer.put(line)
    assert time.monotonic() - before < 1
    wait_until(lambda: writer.dropped > 0)
    dropped = writer.dropped
    text = ""
    while "lost" not in text:
        text += os.read(pipe[0], 65536).decode()
    assert text.count("x" * 999) + dropped == 500
    assert text.endswith(f"lost {dropped}\n"), "the notice stands where the lines are missing"
    writer.close(DEADLINE_S)


def test_close_does_not_wait_for_a_blocked_pipe(pipe: tuple[int, int]) -> None:
    """What cannot be written within the bound is given up."""
    writer = QueueWriter(pipe[1], lost)
    writer.put("x" * 200_000)
    before = time.monotonic()
    writer.close(0.1)
    assert time.monotonic() - before < 1


def test_a_closed_pipe_costs_lines_and_is_tried_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has gone costs the lines; a later success tells how many."""
    monkeypatch.setattr("egress_router.service.log_writer.RETRY_S", 0.01)
    failures = [True]
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if failures[0]:
            raise BrokenPipeError
        return real_write(descriptor, data)

    monkeypatch.setattr("egress_router.service.log_writer.os.write", write)
    writer = QueueWriter(pipe[1], lost)
    writer.put("one\n")
    wait_until(lambda: writer.dropped == 1)
    failures[0] = False
    writer.put("two\n")
    writer.close(DEADLINE_S)
    assert os.read(pipe[0], 100) == b"two\nlost 1\n"


def test_without_a_descriptor_every_line_is_lost() -> None:
    """A daemon started with standard output closed counts its lines and goes on."""
    writer = QueueWriter(None, lost)
    writer.put("one\n")
    writer.close(DEADLINE_S)
    assert writer.dropped == 1


def test_the_descriptor_is_our_own(pipe: tuple[int, int]) -> None:
    """Another file under the same number never gets our lines."""
    writer = QueueWriter(pipe[1], lost)
    os.close(pipe[1])
    writer.put("one\n")
    writer.close(DEADLINE_S)
    assert os.read(pipe[0], 100) == b"one\n"


def test_direct_lines_are_there_at_once(pipe: tuple[int, int]) -> None:
    """One-shot programs write and wait; lone surrogates of a file name do not stop them."""
    writer = DirectWriter(pipe[1])
    writer.put("one \udc80\n")
    assert os.read(pipe[0], 100) == b"one \\udc80\n"
    os.close(pipe[1])
    writer.put("two\n")
    assert writer.dropped == 1


def test_processes_take_turns(pipe: tuple[int, int]) -> None:
    """While another process writes nothing comes between; one that is killed holds up nobody."""
    turn = WriteLock()
    told, tell = os.pipe()
    other = os.fork()
    if other == 0:  # pragma: no cover - another process
        turn.__enter__()
        os.write(tell, b"!")
        signal.pause()
        os._exit(1)
    assert os.read(told, 1) == b"!"
    writer = QueueWriter(pipe[1], lost, turn=turn)
    writer.put("one\n")
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 100)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    writer.close(DEADLINE_S)
    assert os.read(pipe[0], 100) == b"one\n"
    for descriptor in (told, tell):
        os.close(descriptor)
