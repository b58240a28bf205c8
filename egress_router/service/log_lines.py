"""An event and its fields become one line of text: JSON for machines, aligned text for people.

1. A line is one line: control characters, line ends and terminal escapes are made visible,
   whatever a peer put into a name.
2. Time is UTC with milliseconds, `2026-01-31T23:59:59.001Z`, and comes first.
3. JSON is rendered here and not by structlog's processors: a proxy writes one line per connection,
   and the chain of processors costs several times the encoding itself. What nearly all fields are,
   text and numbers, is written without the encoder.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from egress_router.service.events import Event

_NAME_WIDTH: Final = 24  # of the event's name in text; the longest in use has 20

_encode: Final = json.JSONEncoder(default=str, separators=(",", ":"), check_circular=False).encode
_monotonic: Final = time.monotonic
_heads: Final[dict[str, str]] = {}  # of members, by their names, which are those of the code


class Renderer(Protocol):
    """Makes a finished line, newline included."""

    def __call__(self, event: Event, fields: dict[str, Any], at: float, /) -> str:
        """Renders one event of that time, in seconds since 1970."""


def render_time(seconds: float) -> str:
    """Seconds since 1970 as `2026-01-31T23:59:59.001Z`."""
    whole = int(seconds)
    return f"{_render_second(whole)}.{str(1000 + int((seconds - whole) * 1000))[1:]}Z"


@lru_cache(maxsize=1024)
def _render_second(second: int) -> str:
    """Remembered: lines of the same second, and connections that began in it, are many."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def seconds_since(started: float) -> float:
    """How long ago that was (of `time.monotonic`), to a tenth of a millisecond.

    Without `round`, which goes by way of decimal text.
    """
    return int((_monotonic() - started) * 10_000 + 0.5) / 10_000


def render_json(event: Event, fields: dict[str, Any], at: float, /) -> str:
    """A line of one JSON object, in plain ASCII."""
    parts = ['{"timestamp":"', render_time(at), '",', event.head]
    for name, value in fields.items():
        kind = type(value)
        if kind is str:
            text = encode_basestring_ascii(value)
        elif kind is int:
            text = str(value)
        elif kind is float and isfinite(value):
            text = repr(value)
        elif value is None:
            text = "null"
        elif kind is bool:
            text = "true" if value else "false"
        else:
            text = _encode(value)
        head = _heads.get(name)
        if head is None:
            head = _heads[name] = f',"{name}":'
        parts.append(head)
        parts.append(text)
    parts.append("}\n")
    line = "".join(parts)
    if "\x7f" in line:  # the one control character that JSON lets through
        line = line.replace("\x7f", "\\u007f")
    return line


def text_renderer(*, colors: bool) -> Renderer:
    """Lines for a person, by structlog's console renderer (imported here: it costs 0.15 s)."""
    from structlog.dev import ConsoleRenderer  # noqa: PLC0415 - only a person's terminal pays

    console = ConsoleRenderer(colors=colors, pad_event_to=_NAME_WIDTH, sort_keys=False)

    def render(event: Event, fields: dict[str, Any], at: float) -> str:
        line = console(
            None,
            event.level,
            {
                "timestamp": render_time(at),
                "level": event.level,
                "event": event.name,
                **{key: visible(value) for key, value in fields.items()},
            },
        )
        return f"{line}\n"

    return render


def visible(value: object) -> object:
    """Text with whatever is not printable made visible; numbers and None as they are."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return "; ".join(str(visible(part)) for part in value)
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
