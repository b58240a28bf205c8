"""`egress-router status`: the documents of the daemons here, as tables or as JSON, once or live."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from egress_router.service.client import (
    EXIT_NOT_READY,
    EXIT_OK,
    EXIT_USAGE,
    HTTP_OK,
    AskError,
    ask,
    find_daemons,
    printable,
)
from egress_router.service.status_text import ROWS, render_status

STATUS_TIMEOUT_S = 3.0  # a person waits longer than a probe
WATCH_S = 2.0  # as often as a daemon looks at the network
WATCH_MIN_S, WATCH_MAX_S = 0.2, 3600.0
USAGE = """\
usage: egress-router status [MODE] [--json] [--all] [--watch [SECONDS]]

  MODE     redirect, http or dns; without it every daemon of this pod is asked
  --json   the document as the daemon tells it; with --watch one line each time
  --all    tables in full, and in the order of the configuration
  --watch  again every SECONDS (2), until it is interrupted

exit codes: 0 every daemon answered, 1 one did not or none runs, 2 wrong call
"""
_CLEAR = "\x1b[H\x1b[2J"  # home, and clear the screen (ECMA-48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line; `watch_s` None: once."""

    mode: str | None = None
    as_json: bool = False
    whole: bool = False
    watch_s: float | None = None


def run_status(arguments: list[str]) -> int:
    """Prints what the daemons say; 0 if each of them answered."""
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return EXIT_OK
    options = parse_options(arguments)
    if options is None:
        sys.stderr.write(USAGE)
        return EXIT_USAGE
    if options.watch_s is None:
        return _show(options)
    try:
        while True:
            if sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            _show(options)
            sys.stdout.flush()
            time.sleep(options.watch_s)
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:
        # Whoever read has gone (`| head`); what is left is flushed once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def parse_options(arguments: list[str]) -> Options | None:
    """The command line; None if it is wrong."""
    mode, flags, watch_s = None, set(), None
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in {"--json", "--all"}:
            flags.add(word)
        elif word == "--watch":
            watch_s = WATCH_S
            if words and words[0][:1].isdigit():
                watch_s = _parse_seconds(words.pop(0))
                if watch_s is None:
                    return None
        elif word.startswith("-") or mode is not None:
            return None
        else:
            mode = word
    return Options(mode=mode, as_json="--json" in flags, whole="--all" in flags, watch_s=watch_s)


def _parse_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if WATCH_MIN_S <= seconds <= WATCH_MAX_S else None


def _show(options: Options) -> int:
    modes = (options.mode,) if options.mode else find_daemons()
    documents, problems = ask_status(modes)
    for problem in problems or ([] if documents else ["no daemon runs in this network namespace"]):
        sys.stderr.write(f"{printable(problem)}\n")
    if documents and options.as_json:
        shown = next(iter(documents.values())) if len(documents) == 1 else documents
        indent = 2 if options.watch_s is None else None
        sys.stdout.write(json.dumps(shown, indent=indent) + "\n")
    elif documents:
        rows = None if options.whole else ROWS
        tables = [render_status(document, rows=rows) for document in documents.values()]
        sys.stdout.write("\n".join(tables))
    return EXIT_OK if documents and not problems else EXIT_NOT_READY


def ask_status(modes: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The documents of these daemons by mode, and why others have none."""
    documents, problems = {}, []
    for mode in modes:
        try:
            status, body = ask(mode, "/status", STATUS_TIMEOUT_S)
            document = json.loads(body) if status == HTTP_OK else None
        except (AskError, ValueError) as error:
            problems.append(f"{mode}: {error}")
            continue
        if isinstance(document, dict):
            documents[mode] = document
        else:
            problems.append(f"{mode}: /status was answered with {status} and no document")
    return documents, problems
