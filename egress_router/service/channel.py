"""What two processes of a daemon say to each other: lines of JSON over a pair of sockets.

1. `{"do": NAME, ...}` asks for something to be done; with an `id` it wants `{"re": ID, ...}` back.
2. A question that is not answered in time is a TimeoutError, and its late answer is dropped. What
   fails while it is answered is answered with a `problem`.
3. The end of the stream means that the other process is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

Fields: TypeAlias = dict[str, Any]
# What to do at a word, and what to answer, if an answer is wanted.
Handler: TypeAlias = "Callable[[Fields], Awaitable[Fields | None]]"

MESSAGE_BYTES = 256 * 1024 * 1024  # both lists of 16 MiB, escaped; a bound, nothing is reserved


class Channel:
    """One end; `serve` hears what the other one says until it is gone."""

    def __init__(self, sock: socket.socket, handlers: Mapping[str, Handler]) -> None:
        self._sock = sock
        self._handlers = handlers
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._early: list[Fields] = []  # what was said before `serve` had a way to send it
        self._asked: dict[int, asyncio.Future[Fields]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.gone = False

    async def serve(self) -> None:
        """Returns when the other process is gone."""
        reader, self._writer = await asyncio.open_unix_connection(
            sock=self._sock, limit=MESSAGE_BYTES
        )
        try:
            for message in self._early:
                self._send(message)
            while line := await _read_line(reader):
                self._take(json.loads(line))
        finally:
            self.gone = True
            self._writer.close()
            for future in self._asked.values():
                future.cancel()

    def tell(self, do: str, **fields: Any) -> None:
        """Has something done; nobody says whether it was."""
        self._send({"do": do, **fields})

    async def ask(self, do: str, timeout_s: float | None, **fields: Any) -> Fields:
        """The answer; raises TimeoutError, also if nobody is there any more."""
        if self.gone:
            raise TimeoutError
        number = next(self._numbers)
        future: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send({"do": do, "id": number, **fields})
            async with asyncio.timeout(timeout_s):
                await asyncio.wait((future,))
        finally:
            del self._asked[number]
        if future.cancelled():
            raise TimeoutError
        return future.result()

    def _send(self, message: Fields) -> None:
        if self._writer is None:
            self._early.append(message)
        elif not self.gone:
            self._writer.write(json.dumps(message, default=str).encode() + b"\n")

    def _take(self, message: Fields) -> None:
        if "re" in message:
            future = self._asked.get(message["re"])
            if future is not None and not future.done():
                future.set_result(message)
            return
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Fields) -> None:
        answer: Fields | None = {"problem": "it failed; its log says why"}
        try:
            answer = await self._handlers[message["do"]](message)
        finally:
            if "id" in message:
                self._send({**(answer or {}), "re": message["id"]})


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Empty at the end, however it comes."""
    try:
        return await reader.readline()
    except OSError:
        return b""
