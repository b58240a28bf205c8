"""The lines of a head or a trailer section, judged as they come in.

1. A line ends in CRLF. A bare LF, a bare CR, NUL and every other control character but TAB are
   refused on sight, wherever they stand (RFC 9112 §2.2, RFC 9110 §5.5).
2. A field line is NAME ":" OWS VALUE OWS. NAME is a token and the colon follows at once; a line
   that starts with a blank (folding) is refused (RFC 9112 §5.1, §5.2).
3. A value may hold visible characters, blanks, TABs and bytes from 0x80 (RFC 9110 §5.5); the
   latter are carried as Latin-1, so that they leave as they came.
4. Every limit is enforced at the byte that crosses it, and the same fault is found at the same byte
   however the input is cut. Each byte is looked at a fixed number of times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from egress_router.config.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.net.http1.errors import Fault

Headers: TypeAlias = tuple[tuple[str, str], ...]

TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # what a token is made of, RFC 9110 §5.6.2
_VALUE: Final = r"[\t -~\x80-\xff]*"
_FIELD_LINE: Final = re.compile(rf"{TCHAR}+:{_VALUE}")
_FIELD: Final = re.compile(rf"^({TCHAR}+):[ \t]*({_VALUE})\r\n", re.MULTILINE)
_BROKEN_END: Final = rb"(?<!\r)\n|\r(?!\n|\Z)"
_FOREIGN_IN_FIELD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|" + _BROKEN_END)
_FOREIGN_IN_REQUEST_LINE: Final = re.compile(rb"[^ -~\r\n]|" + _BROKEN_END)

_OWS: Final = " \t"
_CRLF_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """How large a head may be; lengths count without CRLF, the total counts everything."""

    first_line_bytes: int = 8 * 1024
    """8 KiB: what Squid and Apache take for a request line; RFC 9112 §3 asks for 8,000 octets."""

    header_bytes: int = 8 * 1024
    """8 KiB for one field line: a large cookie fits, a body in disguise does not."""

    headers: int = 100
    """Ten times what a browser sends; each one costs us a tuple and a comparison."""

    total_bytes: int = 64 * 1024
    """64 KiB, Squid's limit: what one connection may make us hold before it has asked anything."""

    @property
    def harmless_bytes(self) -> int:
        """A head of up to so many bytes can break none of the limits on length."""
        return min(self.first_line_bytes, self.header_bytes, self.total_bytes)


DEFAULT_LIMITS: Final = HeadLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What kind of lines are read, and which error a bad one is.

    `first` judges the line before the fields and raises; None where there is none. `first_status`
    is the answer to one that is too long.
    """

    fault: Fault
    first: Callable[[str], object] | None = None
    first_status: int = 431
    first_name: str = "field line"
    ascii_first: bool = False
    leading_empty_line: bool = False


class LineScan:
    """Finds the empty line that ends a section, judging every line on the way.

    `start` is where the section begins: behind the empty line that may precede a request.
    """

    __slots__ = ("_checked", "_fields", "_first_done", "_limits", "_line", "_section", "start")

    def __init__(self, section: Section, limits: HeadLimits) -> None:
        self._section = section
        self._limits = limits
        self._line = 0  # where the line being received begins
        self._checked = 0  # up to where bytes were judged
        self._fields = 0
        self._first_done = section.first is None
        self.start = 0

    def advance(self, buffer: bytes | bytearray) -> int:
        """The offset behind the empty line, or -1 while it has not come.

        `buffer` holds everything since the section began; it may only have grown since the last
        call. Raises the section's error.
        """
        while (line_end := self._line_end(buffer)) >= 0:
            if line_end == self._line + _CRLF_BYTES:
                if not self._is_leading(line_end):
                    return line_end
            else:
                text = buffer[self._line : line_end - _CRLF_BYTES].decode("latin-1")
                self._check_line(text)
            self._line = self._checked = line_end
        return -1

    def _line_end(self, buffer: bytes | bytearray) -> int:
        """The offset behind the current line's LF, or -1; judges the bytes that are new."""
        limits = self._limits
        longest = limits.header_bytes if self._first_done else limits.first_line_bytes
        cap = min(self._line + longest + _CRLF_BYTES, self.start + limits.total_bytes)
        found = buffer.find(b"\n", self._checked, cap) + 1
        stop = found or min(len(buffer), cap)
        request_line = not self._first_done and self._section.ascii_first
        foreign = _FOREIGN_IN_REQUEST_LINE if request_line else _FOREIGN_IN_FIELD
        # One byte back: a CR that came last is judged by what follows it.
        if bad := foreign.search(buffer, max(self._checked - 1, self._line), stop):
            raise self._section.fault(400, _describe(bad.group(), self._place))
        if found:
            return found
        if len(buffer) >= cap:
            raise self._too_long(cap)
        self._checked = stop
        return -1

    @property
    def _place(self) -> str:
        return "a field line" if self._first_done else f"the {self._section.first_name}"

    def _is_leading(self, line_end: int) -> bool:
        """Whether this empty line precedes a request (RFC 9112 §2.2); one is let pass."""
        if self._first_done:
            return False
        if self._section.leading_empty_line and not self.start:
            self.start = line_end
            return True
        raise self._section.fault(400, f"an empty line where the {self._section.first_name} is due")

    def _too_long(self, cap: int) -> Exception:
        section, limits = self._section, self._limits
        if cap == self.start + limits.total_bytes:
            return section.fault(431, f"lines of more than {limits.total_bytes} bytes in all")
        if self._first_done:
            return section.fault(431, f"a field line of more than {limits.header_bytes} bytes")
        return section.fault(
            section.first_status,
            f"a {section.first_name} of more than {limits.first_line_bytes} bytes",
        )

    def _check_line(self, text: str) -> None:
        if not self._first_done:
            assert self._section.first is not None  # noqa: S101 - how _first_done began
            self._section.first(text)
            self._first_done = True
            return
        self._fields += 1
        if self._fields > self._limits.headers:
            raise self._section.fault(431, f"more than {self._limits.headers} field lines")
        if not _FIELD_LINE.fullmatch(text):
            raise self._section.fault(400, _why_no_field(text))


def parse_fields(text: str, start: int, end: int) -> list[tuple[str, str]] | None:
    """Names and values of the field lines in `text[start:end]`, or None if any line is no field.

    `start` is the begin of a line. Values come without the blanks around them.
    """
    # A match begins at the begin of a line and ends in its LF, so as many matches as LFs, the last
    # of which ends the text, means that every line matched as a whole.
    found = _FIELD.findall(text, start, end)
    if len(found) != text.count("\n", start, end) or (end > start and text[end - 1] != "\n"):
        return None
    if text.find(" \r", start, end) >= 0 or text.find("\t\r", start, end) >= 0:
        return [(name, value.rstrip(_OWS)) for name, value in found]
    return found


def _describe(found: bytes, place: str) -> str:
    if found == b"\n":
        return f"{place} ends in a bare LF"
    if found == b"\r":
        return f"{place} holds a bare CR"
    return f"{place} holds the byte 0x{found[0]:02x}"


def _why_no_field(line: str) -> str:
    name, colon, _ = line.partition(":")
    if line[0] in _OWS:
        return f"field line {quote(line)} starts with a blank; folding is not taken"
    if not colon:
        return f"field line {quote(line)} has no colon"
    if not name:
        return f"field line {quote(line)} has no name"
    if name[-1] in _OWS:
        return f"field line {quote(line)} has a blank before its colon"
    return f"{quote(name)} is no field name"
