"""What two processes say to each other; here both are one, with a pair of sockets between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from egress_router.service.channel import Channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

DEADLINE_S = 10.0


@contextlib.asynccontextmanager
async def pair(**handlers: Any) -> AsyncIterator[tuple[Channel, Channel, asyncio.Task[None]]]:
    """One that asks, one that answers with these handlers, and the task of the former."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    asking, answering = Channel(ours, {}), Channel(theirs, handlers)
    tasks = [asyncio.ensure_future(one.serve()) for one in (asking, answering)]
    try:
        yield asking, answering, tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a scene, with a deadline."""

    async def scene() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test()

    asyncio.run(scene())


async def double(message: dict[str, Any]) -> dict[str, Any]:
    """A handler."""
    return {"twice": 2 * message["number"]}


async def stall(_message: dict[str, Any]) -> None:
    """A handler that never answers."""
    await asyncio.Event().wait()


def test_each_question_has_its_own_answer() -> None:
    """Many at once, also before the channel is open; and of any size."""

    async def scene() -> None:
        async with pair(double=double) as (asking, _, _):
            asked = [asking.ask("double", DEADLINE_S, number=n) for n in range(50)]
            answers = await asyncio.gather(*asked)
            assert [answer["twice"] for answer in answers] == [2 * n for n in range(50)]
            large = await asking.ask("double", DEADLINE_S, number="x\n" * 1_000_000)
            assert len(large["twice"]) == 4_000_000

    run(scene)


def test_one_that_does_not_answer_is_a_timeout() -> None:
    """It holds up no other question, and what is answered late is dropped."""

    async def scene() -> None:
        async with pair(double=double, stall=stall) as (asking, _, _):
            with pytest.raises(TimeoutError):
                await asking.ask("stall", 0.05)
            assert (await asking.ask("double", DEADLINE_S, number=1))["twice"] == 2

    run(scene)


def test_the_end_of_the_other_process_ends_everything() -> None:
    """Open questions end at once, later ones too, and `serve` returns."""

    async def scene() -> None:
        async with pair(stall=stall) as (asking, answering, task):
            question = asyncio.ensure_future(asking.ask("stall", DEADLINE_S))
            with pytest.raises(TimeoutError):
                await asking.ask("stall", 0.05)  # by now the other one is there
            answering._sock.shutdown(socket.SHUT_RDWR)
            with pytest.raises(TimeoutError):
                await question
            await task
            with pytest.raises(TimeoutError):
                await asking.ask("stall", DEADLINE_S)

    run(scene)
