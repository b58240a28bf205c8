"""The head of a request or a response: the first line and the fields, as one frozen value.

1. A request line is METHOD SP TARGET SP VERSION with single blanks; METHOD a token, TARGET visible
   ASCII, kept as it stood (RFC 9112 §3). What the target means is policy's business.
2. VERSION is `HTTP/1.1` or `HTTP/1.0`, in capitals. Any other number, HTTP/2's preface included, is
   505; anything else is 400.
3. A status line is VERSION SP 3DIGIT [SP REASON] (RFC 9112 §4). The second blank is missing in
   answers of many servers and nobody reads that in two ways; it is written on the way out.
4. Field lines as `lines` has them; names keep their case and order, values lose the blanks around
   them and nothing else. Text is Latin-1, so that `encode("latin-1")` gives back what came in.
5. An equal head gives an equal value or an equal refusal, whole or by drips (see head_reader).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress_router.config.text import quote
from egress_router.net.http1.errors import client_fault, upstream_fault
from egress_router.net.http1.lines import (
    DEFAULT_LIMITS,
    TCHAR,
    Headers,
    HeadLimits,
    LineScan,
    Section,
    parse_fields,
)

if TYPE_CHECKING:
    from egress_router.errors import RefusalError

HTTP_1_0: Final = (1, 0)
HTTP_1_1: Final = (1, 1)

_END: Final = b"\r\n\r\n"
_METHOD: Final = re.compile(f"{TCHAR}+")
_REQUEST_LINE: Final = re.compile(rf"({TCHAR}+) ([!-~]+) HTTP/1\.([01])")
_ANY_VERSION: Final = re.compile(rf"{TCHAR}+ [!-~]+ (HTTP/[0-9]\.[0-9])")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?")
_VERSIONS: Final = {"0": HTTP_1_0, "1": HTTP_1_1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """Fields in the order and spelling they came in, and by their lower-case names."""

    version: tuple[int, int]
    headers: Headers
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The names of `headers` in lower case, in the same order."""

    _last: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple([name.lower() for name, _ in self.headers])
        values = [value for _, value in self.headers]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_last", dict(zip(names, values, strict=False)))

    def __contains__(self, name: str) -> bool:
        """Whether a field of this name is there; `name` in lower case."""
        return name in self._last

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all fields of this name, in order; `name` in lower case."""
        value = self._last.get(name)
        if value is None:
            return ()
        if len(self._last) == len(self.names):
            return (value,)
        pairs = zip(self.names, self.headers, strict=True)
        return tuple([header[1] for known, header in pairs if known == name])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead(_Fields):
    """A request's head as parsed: `GET http://a.test/ HTTP/1.1` has target `http://a.test/`."""

    method: str
    target: str

    @staticmethod
    def fault(status: int, reason: str) -> RefusalError:
        """The error for something wrong with this head; `status` is what the client is told."""
        return client_fault(status, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead(_Fields):
    """A response's head as parsed; `reason` may be empty."""

    status: int
    reason: str

    @staticmethod
    def fault(status: int, reason: str) -> RefusalError:
        """The error for something wrong with this head: 502, whatever `status` says."""
        return upstream_fault(status, reason)


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """The offset behind the empty line that ends a head, or -1.

    `start` is up to where an earlier call has searched, so that drips cost nothing.
    """
    found = buffer.find(_END, max(0, start - len(_END) + 1))
    return found + len(_END) if found >= 0 else -1


def parse_request_line(line: str) -> tuple[str, str, tuple[int, int]]:
    """Method, target and version; raises RefusalError (400, 505)."""
    if match := _REQUEST_LINE.fullmatch(line):
        method, target, minor = match.groups()
        return method, target, _VERSIONS[minor]
    if other := _ANY_VERSION.fullmatch(line):
        raise client_fault(505, f"{other[1]} is not spoken here; expected HTTP/1.1 or HTTP/1.0")
    raise client_fault(400, f"request line {quote(line)} {_why_no_request_line(line)}")


def parse_status_line(line: str) -> tuple[tuple[int, int], int, str]:
    """Version, status and reason; raises UpstreamProtocolError."""
    if match := _STATUS_LINE.fullmatch(line):
        minor, status, reason = match.groups()
        return _VERSIONS[minor], int(status), reason or ""
    raise upstream_fault(502, f"{quote(line)} is no status line of HTTP/1.1 or HTTP/1.0")


REQUEST_SECTION: Final = Section(
    fault=client_fault,
    first=parse_request_line,
    first_status=414,
    first_name="request line",
    ascii_first=True,
    leading_empty_line=True,
)
RESPONSE_SECTION: Final = Section(
    fault=upstream_fault, first=parse_status_line, first_name="status line"
)


def parse_request_head(data: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> RequestHead:
    """A request's head from exactly its bytes, the empty line included.

    One empty line before it is passed over (RFC 9112 §2.2). Raises RefusalError: 400, 414 (request
    line too long), 431 (fields too large), 505 (version).
    """
    match, headers = _parse(data, _REQUEST_LINE, REQUEST_SECTION, limits)
    method, target, minor = match.groups()
    return RequestHead(method=method, target=target, version=_VERSIONS[minor], headers=headers)


def parse_response_head(data: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> ResponseHead:
    """A response's head from exactly its bytes, the empty line included.

    Raises UpstreamProtocolError.
    """
    match, headers = _parse(data, _STATUS_LINE, RESPONSE_SECTION, limits)
    minor, status, reason = match.groups()
    return ResponseHead(
        version=_VERSIONS[minor], status=int(status), reason=reason or "", headers=headers
    )


def _parse(
    data: bytes, first_line: re.Pattern[str], section: Section, limits: HeadLimits
) -> tuple[re.Match[str], Headers]:
    """The first line's match and the fields, by two regular expressions over the whole head.

    Only what these do not take, or what is long enough to break a limit, is read line by line.
    """
    text = data.decode("latin-1")
    start = 2 if section.leading_empty_line and data.startswith(b"\r\n") else 0
    line_end = text.find("\r\n", start)
    if line_end >= 0 and data.endswith(_END):
        match = first_line.fullmatch(text, start, line_end)
        headers = parse_fields(text, line_end + 2, len(text) - 2)
        if match and headers is not None and len(headers) <= limits.headers:
            if len(data) <= limits.harmless_bytes:
                return match, tuple(headers)
            if LineScan(section, limits).advance(data) == len(data):
                return match, tuple(headers)
    LineScan(section, limits).advance(data)
    raise section.fault(400, f"{len(data)} bytes that are not exactly one head")


def _why_no_request_line(line: str) -> str:
    words = line.split(" ")
    if len(words) != 3:
        return "is not METHOD TARGET VERSION with one blank between each"
    method, target, version = words
    if not _METHOD.fullmatch(method):
        return "does not start with a method"
    if not target:
        return "has no target"
    return f"ends in {quote(version)}; expected HTTP/1.1 or HTTP/1.0"
