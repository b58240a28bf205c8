"""Reads a head from whatever slices a connection delivers.

1. A head that comes in one piece is parsed at once, without a copy. Anything else is judged line by
   line as it comes in: a fault is refused at the byte that is wrong, not when the head is complete.
2. The work is linear in the bytes fed, even one by one.
3. Bytes behind the head are nobody's yet: `tail` hands them to whoever reads the body, or the next
   head (pipelining), or the tunnel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from egress_router.net.http1.head import (
    REQUEST_SECTION,
    RESPONSE_SECTION,
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_request_head,
    parse_response_head,
)
from egress_router.net.http1.lines import DEFAULT_LIMITS, HeadLimits, LineScan, Section

if TYPE_CHECKING:
    from collections.abc import Callable

HeadT = TypeVar("HeadT", RequestHead, ResponseHead)


class HeadReader(Generic[HeadT]):
    """One head, fed by slices; made by `request_reader` or `response_reader`.

    After `feed` has returned the head, `tail` holds what followed it and the reader is spent. After
    an error it is spent as well: the connection has no next message.
    """

    __slots__ = ("_buffer", "_limits", "_parse", "_scan", "_section", "tail")

    def __init__(
        self, parse: Callable[[bytes, HeadLimits], HeadT], section: Section, limits: HeadLimits
    ) -> None:
        self._parse: Callable[[bytes, HeadLimits], HeadT] = parse
        self._section = section
        self._limits = limits
        self._buffer = bytearray()
        self._scan: LineScan | None = None
        self.tail = b""

    @property
    def started(self) -> bool:
        """Whether part of a head has come: the peer is owed a 408, not a silent close."""
        return self._scan is not None

    def feed(self, data: bytes) -> HeadT | None:
        """The head once it is complete, else None; raises what the parser raises."""
        if self._scan is None:
            end = find_head_end(data)
            if end >= 0:
                self.tail = data[end:]
                return self._parse(data[:end], self._limits)
            if not data:
                return None
            self._scan = LineScan(self._section, self._limits)
        self._buffer += data
        end = self._scan.advance(self._buffer)
        if end < 0:
            return None
        self.tail = bytes(self._buffer[end:])
        return self._parse(bytes(self._buffer[:end]), self._limits)


def request_reader(limits: HeadLimits = DEFAULT_LIMITS) -> HeadReader[RequestHead]:
    """A reader of one request's head; raises RefusalError (400, 414, 431, 505)."""
    return HeadReader(parse_request_head, REQUEST_SECTION, limits)


def response_reader(limits: HeadLimits = DEFAULT_LIMITS) -> HeadReader[ResponseHead]:
    """A reader of one response's head; raises UpstreamProtocolError."""
    return HeadReader(parse_response_head, RESPONSE_SECTION, limits)
