"""The chunked transfer coding, read from any slices and written anew (RFC 9112 §7.1).

1. A chunk is SIZE [EXTENSIONS] CRLF DATA CRLF; SIZE is 1 to 16 hexadecimal digits and nothing else:
   no sign, prefix, blank or underscore. Every line ends in CRLF; a bare LF or CR is refused.
2. Extensions are parsed, so that they cannot hide a line end, and dropped (RFC 9112 §7.1.1). The
   blanks that the grammar calls bad are refused: no known sender writes them, and other parsers
   refuse them too.
3. Trailers are field lines, judged like those of a head and held to limits of their own. Fields
   that frame, route, authenticate or tell how to read the content are dropped (RFC 9110 §6.5.1).
4. The payload comes out as slices of what was fed, never copied. Bytes behind the end are left.
5. What goes out is made from sizes and payload alone; nothing of the other side's spelling passes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from egress_router.config.text import quote
from egress_router.net.http1.errors import client_fault, upstream_fault
from egress_router.net.http1.lines import (
    TCHAR,
    Headers,
    HeadLimits,
    LineScan,
    Section,
    parse_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress_router.net.http1.errors import Fault

EXTENSION_MAX_BYTES: Final = 4 * 1024  # 4 KiB; no known sender needs more than a signature's length
SIZE_MAX_DIGITS: Final = 16  # a 64-bit number; longer ones were made to wrap somebody's counter

TRAILER_LIMITS: Final = HeadLimits(
    first_line_bytes=0,
    header_bytes=4 * 1024,  # a digest or a status with its message, the known uses, fit
    headers=32,
    total_bytes=16 * 1024,
)

FORBIDDEN_TRAILERS: Final = frozenset(
    (
        # framing and the connection
        *("transfer-encoding", "content-length", "connection", "keep-alive", "proxy-connection"),
        *("te", "trailer", "upgrade", "http2-settings"),
        # routing and control
        *("host", "via", "max-forwards", "forwarded", "expect", "cache-control", "pragma", "range"),
        *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"),
        *("age", "date", "expires", "location", "retry-after", "vary", "warning"),
        # who asks
        *("authorization", "proxy-authorization", "cookie", "set-cookie"),
        *("www-authenticate", "proxy-authenticate"),
        *("authentication-info", "proxy-authentication-info"),
        # how to read the content
        *("content-encoding", "content-type", "content-range"),
    )
)
FORBIDDEN_TRAILER_PREFIX: Final = "x-forwarded-"  # routing by custom

# No two neighbours in this can match the same bytes, so a mismatch costs no more than a match.
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'  # RFC 9110 §5.6.4
_EXTENSIONS = rf"(?:;{TCHAR}+(?:=(?:{TCHAR}+|{_QUOTED}))?)*"
_SIZE = rf"[0-9A-Fa-f]{{1,{SIZE_MAX_DIGITS}}}"
_SIZE_LINE = re.compile(rf"({_SIZE})({_EXTENSIONS})\r\n".encode())
_PLAIN_SIZE_LINE = re.compile(rf"({_SIZE})\r\n".encode())
_SIZE_BEGIN = re.compile(rf"{_SIZE}(?:[;\r]|\Z)".encode())
_SIZE_LINE_MAX_BYTES = SIZE_MAX_DIGITS + EXTENSION_MAX_BYTES + 2
_FOREIGN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
_CRLF = b"\r\n"


class ChunkedReader:
    """One chunked body, fed by slices; made by `request_chunks` or `response_chunks`.

    `done` tells that the body has ended, by which time `trailers` holds the fields that may go on.
    A connection that ends before `done` has torn the body.
    """

    __slots__ = ("_fault", "_left", "_line", "_scan", "_section", "_trailer", "done", "trailers")

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._left = 0  # bytes of the current chunk to come, its CRLF included; 0: a size line
        self._line = bytearray()  # what has come of a size line
        self._section = Section(fault=fault)
        self._scan: LineScan | None = None  # of the trailer section, once it has begun
        self._trailer = bytearray()
        self.done = False
        self.trailers: Headers = ()

    def feed(self, data: bytes) -> tuple[list[memoryview], int]:
        """The payload in `data`, as slices of it, and how many of its bytes were used.

        Fewer than all are used only when the body has ended. Raises the side's error (400, 431).
        """
        payload: list[memoryview] = []
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._scan:
                at = self._feed_trailer(data, at)
            elif self._left:
                at = self._feed_chunk(data, view, at, payload)
            else:
                if not self._line:
                    at = _whole_chunks(data, view, at, payload)
                if at < end:
                    at = self._feed_size(data, at)
        return payload, at

    def _feed_chunk(self, data: bytes, view: memoryview, at: int, payload: list[memoryview]) -> int:
        left = self._left
        if left > len(_CRLF):
            stop = min(at + left - len(_CRLF), len(data))
            payload.append(view[at:stop])
            left -= stop - at
            at = stop
        if left <= len(_CRLF) and at < len(data):
            due = _CRLF[len(_CRLF) - left :]
            came = data[at : at + left]
            if not due.startswith(came):
                raise self._fault(400, f"chunk data is followed by {quote(_text(came))}, not CRLF")
            left -= len(came)
            at += len(came)
        self._left = left
        return at

    def _feed_size(self, data: bytes, at: int) -> int:
        if not self._line and (plain := _PLAIN_SIZE_LINE.match(data, at)):
            self._begin_chunk(int(plain[1], 16))
            return plain.end()
        line = self._line
        known = len(line)
        found = data.find(b"\n", at, at + _SIZE_LINE_MAX_BYTES - known) + 1
        line += data[at : found or at + _SIZE_LINE_MAX_BYTES - known]
        self._check_partial_size(known)
        if not found:
            if len(line) >= _SIZE_LINE_MAX_BYTES:
                raise self._fault(400, f"a chunk size line of {len(line)} bytes or more")
            return len(data)
        match = _SIZE_LINE.fullmatch(bytes(line))
        if not match:
            raise self._fault(400, f"{quote(_text(line))} is no chunk size with its extensions")
        if len(match[2]) > EXTENSION_MAX_BYTES:
            raise self._fault(400, f"chunk extensions of {len(match[2])} bytes")
        line.clear()
        self._begin_chunk(int(match[1], 16))
        return found

    def _check_partial_size(self, known: int) -> None:
        """Refuses a size line by what has come of it, from the byte at `known` on."""
        line = self._line
        if bad := _FOREIGN.search(line, max(known - 1, 0)):
            raise self._fault(400, f"a chunk size line holds the byte 0x{bad.group()[0]:02x}")
        if known <= SIZE_MAX_DIGITS and not _SIZE_BEGIN.match(line):
            raise self._fault(400, f"{quote(_text(line))} does not begin with a chunk size")

    def _begin_chunk(self, size: int) -> None:
        if size:
            self._left = size + len(_CRLF)
        else:
            self._scan = LineScan(self._section, TRAILER_LIMITS)

    def _feed_trailer(self, data: bytes, at: int) -> int:
        if not self._trailer and data.startswith(_CRLF, at):  # no trailers, as nearly always
            self.done = True
            return at + len(_CRLF)
        assert self._scan is not None  # noqa: S101 - what brought us here
        before = len(self._trailer)
        self._trailer += data[at:]
        end = self._scan.advance(self._trailer)
        if end < 0:
            return len(data)
        text = self._trailer[: end - len(_CRLF)].decode("latin-1")
        self.trailers = _permitted(parse_fields(text, 0, len(text)) or ())
        self.done = True
        return at + end - before


def request_chunks() -> ChunkedReader:
    """A reader of a request's chunked body; raises RefusalError (400, 431)."""
    return ChunkedReader(client_fault)


def response_chunks() -> ChunkedReader:
    """A reader of a response's chunked body; raises UpstreamProtocolError."""
    return ChunkedReader(upstream_fault)


def render_chunk(payload: Iterable[bytes | memoryview]) -> bytes:
    """One chunk of all these slices; nothing for no bytes: an empty chunk is the last."""
    data = b"".join(payload)
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def render_last_chunk(trailers: Headers = ()) -> bytes:
    """The end of a chunked body; `trailers` as ChunkedReader gives them."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in trailers])
    return f"0\r\n{lines}\r\n".encode("latin-1")


def _whole_chunks(data: bytes, view: memoryview, at: int, payload: list[memoryview]) -> int:
    """Takes the chunks from `at` on that are plain and complete; the offset behind the last one."""
    while plain := _PLAIN_SIZE_LINE.match(data, at):
        begin = plain.end()
        stop = begin + int(plain[1], 16)
        if stop == begin or not data.startswith(_CRLF, stop):
            break  # the last chunk, one that is cut, or a fault: for the reader to say
        payload.append(view[begin:stop])
        at = stop + len(_CRLF)
    return at


def _permitted(fields: Iterable[tuple[str, str]]) -> Headers:
    """The trailer fields that may go on."""
    return tuple(
        (name, value)
        for name, value in fields
        if (lower := name.lower()) not in FORBIDDEN_TRAILERS
        and not lower.startswith(FORBIDDEN_TRAILER_PREFIX)
    )


def _text(data: bytes | bytearray) -> str:
    return data.decode("latin-1")
