"""Logs of every program: `log_event(EVENT, **fields)` and where its lines go.

`configure_logs` decides once where lines go. In a daemon they pass a bounded queue (log_writer);
one-shot programs write to standard error and wait. Before it is called, lines go to standard error
as JSON, so that none is lost. `log_event` is the hot path: one comparison when the level is off.
"""

from __future__ import annotations

import os
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from egress_router.service.events import LOG_LINES_LOST, RANKS, Event
from egress_router.service.log_lines import Renderer, render_json, text_renderer
from egress_router.service.log_writer import DirectWriter, QueueWriter, Writer
from egress_router.service.place import ALONE, Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from egress_router.config.daemon import LogConfig

STDOUT, STDERR = 1, 2  # no Final: tests put a terminal there, in compiled code as well
_now: Final = time.time


class _Log:
    """What is in force: the lowest rank that is written, how a line looks, where it goes.

    `first`: whether what all processes of the daemon see is written by this one.
    """

    __slots__ = ("first", "render", "threshold", "writer")

    def __init__(self) -> None:
        self.put_in_force(RANKS["info"], render_json, DirectWriter(STDERR), first=True)

    def put_in_force(
        self, threshold: int, render: Renderer, writer: Writer, *, first: bool
    ) -> None:
        self.threshold = threshold
        self.render = render
        self.writer = writer
        self.first = first

    def takes(self, event: Event) -> bool:
        return event.rank >= self.threshold and (self.first or not event.common)


_log: Final = _Log()  # the one place where lines of a process go


def log_event(event: Event, /, **fields: Any) -> None:
    """Writes one event; values are text, numbers, None, tuples, or anything `str()` renders."""
    log_fields(event, fields)


def log_fields(event: Event, fields: dict[str, Any]) -> None:
    """The same where the fields are at hand as they are to be written."""
    if _log.takes(event):
        _log.writer.put(_log.render(event, fields, _now()))


def log_late(event: Event, fields: Callable[..., dict[str, Any]], *args: object) -> None:
    """The same for the lines of connections, which the writer makes: many at once cost less.

    `fields(*args)` is called once, perhaps in another thread; what it looks at is not to change
    any more.
    """
    if _log.takes(event):
        _log.writer.put_late(_render_late, _log.render, event, _now(), fields, args)


def _render_late(
    render: Renderer,
    event: Event,
    at: float,
    fields: Callable[..., dict[str, Any]],
    args: tuple[object, ...],
) -> str:
    return render(event, fields(*args), at)


def is_logged(event: Event) -> bool:
    """Whether lines of that event are written at all; for callers whose fields cost something."""
    return _log.takes(event)


def configure_logs(
    config: LogConfig,
    *,
    daemon: bool,
    place: Place = ALONE,
    turn: AbstractContextManager[None] | None = None,
) -> None:
    """Puts the configuration in force: daemons write to stdout by a queue, others to stderr.

    A daemon of several processes writes by turns, and its first one writes what all of them see.
    """
    descriptor = STDOUT if daemon else STDERR
    terminal = os.isatty(descriptor)
    render = (
        text_renderer(colors=terminal and "NO_COLOR" not in os.environ)
        if (config.format or ("text" if terminal else "json")) == "text"
        else render_json
    )
    writer: Writer = DirectWriter(descriptor)
    if daemon:
        writer = QueueWriter(
            descriptor if _is_open(descriptor) else None,
            lambda count: render(LOG_LINES_LOST, {"count": count}, _now()),
            turn=turn,
        )
    _log.put_in_force(RANKS[config.level], render, writer, first=place.first)


def close_logs(timeout_s: float) -> None:
    """Writes what is still queued, for no longer than that."""
    _log.writer.close(timeout_s)


def dropped_lines() -> int:
    """How many lines were lost since the start because nobody took them."""
    return _log.writer.dropped


def describe_error(error: BaseException) -> dict[str, str]:
    """The fields `error` and `traceback` of an unforeseen error."""
    return {
        "error": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)).rstrip(),
    }


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
