"""The request's body on its way to the server, while the answer may come already.

1. What came along with the head goes out with it; only a body that is not whole yet gets a task.
2. One piece is read, then written: a server that does not take it keeps the client waiting.
3. The client's end within its body is the end of the exchange. A server that refuses the rest may
   have answered: the task stops, and whoever reads the answer finds out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from egress_router.net.http1.chunked import render_chunk, render_last_chunk, request_chunks
from egress_router.net.http1.framing import BodyKind, Framing

if TYPE_CHECKING:
    from egress_router.modes.http.ledger import Record
    from egress_router.modes.http.watchdog import Watchdog
    from egress_router.net.stream import Stream


class Side(Protocol):
    """The client's connection, as far as a body needs it."""

    stream: Stream
    buffer: bytes
    watchdog: Watchdog

    def leave(self) -> None:
        """The client has gone before its request was complete."""


class Upload:
    """One request's body; `done` once its last byte was handed on."""

    __slots__ = ("_chunks", "_client", "_left", "_record", "done", "refused", "starved")

    def __init__(self, client: Side, framing: Framing, record: Record) -> None:
        self._client = client
        self._record = record
        self._left = framing.length
        self._chunks = request_chunks() if framing.kind is BodyKind.CHUNKED else None
        self.done = framing.kind is BodyKind.NONE or (
            framing.kind is BodyKind.LENGTH and not framing.length
        )
        self.starved = False
        self.refused = False

    def take_buffered(self) -> bytes:
        """The part of the body that the client's buffer holds, as it goes out."""
        if self.done or not self._client.buffer:
            return b""
        return self._pass(self._client.buffer)

    async def run(self, sink: Stream) -> None:
        """Passes the rest on; raises RefusalError for bad chunks."""
        client = self._client
        while not self.done:
            self.starved = True
            data = client.buffer or await client.stream.read()
            self.starved = False
            if not data:
                client.leave()
                return
            client.watchdog.touch()
            piece = self._pass(data)
            try:
                await sink.write(piece)
            except OSError:
                self.refused = True
                return
            client.watchdog.touch()

    def _pass(self, data: bytes) -> bytes:
        """What goes out for the bytes that came; those behind the body's end stay the client's."""
        if self._chunks is None:
            piece = data[: self._left]
            self._client.buffer = data[self._left :]
            self._left -= len(piece)
            self.done = not self._left
            self._record.bytes_up += len(piece)
            return piece
        payload, used = self._chunks.feed(data)
        self._client.buffer = data[used:]
        self._record.bytes_up += sum(map(len, payload))
        piece = render_chunk(payload)
        if self._chunks.done:
            self.done = True
            piece += render_last_chunk(self._chunks.trailers)
        return piece
