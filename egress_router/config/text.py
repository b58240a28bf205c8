"""What all list variables share: lines, fields, numbers, and the collector of problems.

1. A line is stripped of blanks and tabs at both ends (ConfigMaps indent with tabs); CRLF is fine.
2. Empty lines and lines that start with `#` do not count; ` # note` behind a rule is dropped.
3. Fields are separated by blanks or tabs.
4. A number is plain ASCII decimal, no sign, no leading zero: the originals' shell read `010` as 8.
5. A byte-order mark, a non-breaking space or a control character is an error by name, never a
   silent part of a word.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from egress_router.errors import ConfigurationError, Problem

PORT_MIN, PORT_MAX = 1, 65535

_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_COMMENT = re.compile(r"[ \t]#.*\Z")
_BLANKS = " \t"
QUOTE_LIMIT = (
    120  # characters of a bad line that a message repeats: enough to find it, one screen line
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One rule line: its number (from 1, comments counted), its text and its fields.

    `Line(number=2, text="80 tcp 203.0.113.25", fields=("80", "tcp", "203.0.113.25"))`
    """

    number: int
    text: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Problems:
    """Collects what is wrong with one variable, so that all of it is reported at once."""

    variable: str
    found: list[Problem] = field(default_factory=list)

    def add(self, message: str, *, line: Line | int | None = None) -> None:
        """Notes one problem, at a line where there is one."""
        number = line.number if isinstance(line, Line) else line
        self.found.append(Problem(variable=self.variable, message=message, line=number))

    def raise_if_any(self) -> None:
        """Raises ConfigurationError with all of them, or does nothing."""
        if self.found:
            raise ConfigurationError(tuple(self.found))


def quote(text: str) -> str:
    """Text in single quotes, cut to a readable length, control characters made visible."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(shown) > QUOTE_LIMIT:
        shown = shown[:QUOTE_LIMIT] + "…"
    return f"'{shown}'"


def split_lines(text: str, problems: Problems) -> tuple[Line, ...]:
    """Cuts a variable's text into rule lines; bad characters go to `problems`."""
    lines = []
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.removesuffix("\r").strip(_BLANKS)
        if not stripped or stripped.startswith("#"):
            continue
        content = _COMMENT.sub("", stripped).rstrip(_BLANKS)
        if foreign := foreign_character(content):
            problems.add(f"{quote(content)} holds {foreign}; expected plain text", line=number)
            continue
        lines.append(Line(number=number, text=content, fields=tuple(content.split())))
    return tuple(lines)


def foreign_character(text: str) -> str | None:
    """Names the first character that no rule may hold, e.g. `a NO-BREAK SPACE (U+00A0)`."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        if character == "\t" or (character.isascii() and character.isprintable()):
            continue
        if character == "\ufeff":
            return "a byte-order mark (U+FEFF)"
        if character.isspace() or not character.isprintable():
            name = unicodedata.name(character, "a control character")
            return f"{name} (U+{ord(character):04X})"
    return None


def parse_decimal(text: str) -> int | None:
    """The value of a plain decimal number, or None if the text is anything else."""
    return int(text) if _DECIMAL.match(text) else None


def parse_port(text: str) -> int | None:
    """A port from 1 to 65535, or None."""
    number = parse_decimal(text)
    return number if number is not None and PORT_MIN <= number <= PORT_MAX else None


def invalid_port(text: str) -> str:
    """The originals' message for a port, with the text that was found."""
    return f"Invalid port: {text}, must be in the range {PORT_MIN} to {PORT_MAX}"
