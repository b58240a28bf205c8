"""What libraries say by `logging`, `warnings` and errors that nobody catches becomes events.

Not in `service.logs`, which is compiled: a compiled class whose base is an interpreted one forgets
to tell the weak references to an instance that it is gone, and `logging` keeps such references.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from egress_router.service.events import LIBRARY_MESSAGE
from egress_router.service.logs import describe_error, log_event

if TYPE_CHECKING:
    from types import TracebackType


class LibraryHandler(logging.Handler):
    """Turns warnings of libraries, which use `logging`, into events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one record of a library."""
        fields = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = describe_error(record.exc_info[1])["traceback"]
        log_event(LIBRARY_MESSAGE, **fields)


def capture_library_messages() -> None:
    """Routes `logging`, `warnings` and errors nobody catches into events; nothing else prints."""
    root = logging.getLogger()
    root.handlers[:] = [LibraryHandler(level=logging.WARNING)]
    logging.captureWarnings(capture=True)
    threading.excepthook = lambda args: _log_stray(
        args.exc_value, f"thread {args.thread.name if args.thread else 'unknown'}"
    )
    sys.unraisablehook = lambda args: _log_stray(args.exc_value, args.err_msg or "cleanup")
    sys.excepthook = _log_uncaught


def _log_stray(error: BaseException | None, where: str) -> None:
    fields = describe_error(error) if error is not None else {"error": "unknown", "traceback": ""}
    log_event(
        LIBRARY_MESSAGE,
        logger=where,
        message=fields["error"],
        traceback=fields["traceback"],
    )


def _log_uncaught(
    _kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    _log_stray(error, "main")
