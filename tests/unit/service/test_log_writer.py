"""Lines on their way out, with pipes that a test blocks, reads and closes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from egress_router.service.log_writer import LATE_CHARACTERS, DirectWriter, QueueWriter, WriteLock

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


def test_late_lines_are_made_by_the_writer_in_their_order(pipe: tuple[int, int]) -> None:
    """Lines made at once and late ones stand in the order in which they were put."""
    writer = QueueWriter(pipe[1], lost)
    makers = set()

    def late(number: int) -> str:
        makers.add(threading.get_ident())
        return f"{number}\n"

    for number in range(0, 1000, 2):
        writer.put_late(partial(late, number))
        writer.put(f"{number + 1}\n")
    writer.close(DEADLINE_S)
    assert os.read(pipe[0], 65536).decode().split() == [str(n) for n in range(1000)]
    assert threading.get_ident() not in makers


def test_a_line_that_cannot_be_made_is_told_of(pipe: tuple[int, int]) -> None:
    """It costs itself alone, and is counted where it is missing."""

    def fail() -> str:
        raise ValueError

    writer = QueueWriter(pipe[1], lost)
    writer.put("one\n")
    writer.put_late(fail)
    writer.put("two\n")
    writer.close(DEADLINE_S)
    text = os.read(pipe[0], 100).decode()
    assert text.split("\n")[0] == "one"
    assert "two\n" in text
    assert "lost 1\n" in text
    assert writer.dropped == 1


def test_late_lines_are_bounded_too(pipe: tuple[int, int]) -> None:
    """What waits to be made counts towards the limit, and each line ends up somewhere."""
    writer = QueueWriter(pipe[1], lost, limit=100 * LATE_CHARACTERS)
    writer.put("x" * 200_000)  # the pipe is full, and the thread in its write
    wait_until(lambda: not writer._lines)
    for _ in range(150):
        writer.put_late(lambda: "late\n")
    assert writer.dropped == 50
    text = ""
    while "lost" not in text:
        text += os.read(pipe[0], 65536).decode()
    assert text.count("late\n") == 100
    assert text.endswith("lost 50\n")
    writer.close(DEADLINE_S)


def test_the_interpreter_is_let_go_between_late_lines() -> None:
    """However many wait, the loop's thread has its turn: never 50 ms without it."""
    assert min(_longest_wait() for _ in range(5)) < 0.05


def _longest_wait() -> float:
    read, write = os.pipe()
    writer = QueueWriter(write, lost)
    os.close(write)
    drain = threading.Thread(target=_drain, args=(read,))
    drain.start()
    for _ in range(4000):
        writer.put_late(lambda: json.dumps(list(range(40))) + "\n")
    longest, before = 0.0, time.monotonic()
    while writer._lines or not writer._idle:
        time.sleep(0.001)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    assert writer._descriptor is not None
    os.close(writer._descriptor)
    drain.join(DEADLINE_S)
    os.close(read)
    assert writer.dropped == 0
    return longest


def _drain(descriptor: int) -> None:
    while os.read(descriptor, 65536):
        pass


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
    writer.put_late(lambda: "late\n")
    assert os.read(pipe[0], 100) == b"one \\udc80\nlate\n"
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
