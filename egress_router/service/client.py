"""`egress-router health` and `egress-router status`: ask the daemons of this network namespace.

An exec probe runs `health` every few seconds, so nothing is imported that start-up would notice:
the request is one line and the answer is read to its end (HTTP/1.0, RFC 1945).
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from egress_router.service.admin_socket import SOCKET_PREFIX, socket_name

# Kubernetes gives an exec probe 1 s by default and kills it then; a reason is better than a kill.
TIMEOUT_S = 0.8
ANSWER_LIMIT = 4 * 1024 * 1024  # bytes; ten thousand destinations in a status are one tenth of it
_UNIX_SOCKETS = "/proc/net/unix"
_LISTENING = 0x10000  # __SO_ACCEPTCON, column Flags (proc_net_unix; include/linux/net.h)

HEALTH_USAGE = "usage: egress-router health [MODE]"
HTTP_OK = 200
EXIT_OK, EXIT_NOT_READY, EXIT_USAGE = 0, 1, 2


class AskError(Exception):
    """A daemon did not answer; the message says why."""


def health_command(arguments: list[str]) -> int:
    """Exits 0 if every daemon here (or the named one) is ready, else 1 and says why on stderr."""
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(f"{HEALTH_USAGE}\n")
        return EXIT_OK
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.stderr.write(f"{HEALTH_USAGE}\n")
        return EXIT_USAGE
    modes = tuple(arguments) or find_daemons()
    problems = [] if modes else ["no daemon runs in this network namespace"]
    for mode in modes:
        try:
            status, body = ask(mode, "/readyz", TIMEOUT_S)
        except AskError as error:
            problems.append(f"{mode}: {error}")
            continue
        if status != HTTP_OK:
            problems.extend(
                f"{mode}: {line}" for line in body.decode(errors="replace").splitlines()
            )
    for problem in problems:
        sys.stderr.write(f"{printable(problem)}\n")
    return EXIT_NOT_READY if problems else EXIT_OK


def status_command(arguments: list[str]) -> int:
    """Prints the status of every daemon here (or of the named one) as a table or as JSON.

    `--json` prints the document of one daemon, `{mode: document}` for several. `--all`: whole
    tables. `--watch`: again and again until it is interrupted, JSON as one line each time.
    """
    from egress_router.service.status_command import run_status  # noqa: PLC0415 - `health` does without

    return run_status(arguments)


def find_daemons() -> tuple[str, ...]:
    """The modes whose admin sockets listen in this network namespace, sorted."""
    with open(_UNIX_SOCKETS, encoding="utf-8", errors="replace") as table:  # noqa: PTH123 - 5 ms
        return parse_unix_sockets(table.read())


def parse_unix_sockets(table: str) -> tuple[str, ...]:
    """The modes named in the text of /proc/net/unix, sorted.

    A line is `ffff…: 00000002 00000000 00010000 0001 01 12345 @egress-router/http`.
    """
    prefix = f"@{SOCKET_PREFIX}"
    modes = set()
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7].startswith(prefix) and int(fields[3], 16) & _LISTENING:
            modes.add(fields[7].removeprefix(prefix))
    return tuple(sorted(modes))


def ask(mode: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    """The status and body a daemon answers to GET; raises AskError if it does not in time."""
    deadline = time.monotonic() + timeout_s
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _limit(connection, deadline)
            connection.connect(socket_name(mode))
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            while piece := connection.recv(65536):
                answer += piece
                if len(answer) > ANSWER_LIMIT:
                    raise AskError("its answer never ends")
                _limit(connection, deadline)
    except BlockingIOError as error:
        raise AskError(f"no answer within {timeout_s:g} s") from error
    except ConnectionRefusedError as error:
        raise AskError("no such daemon runs in this network namespace") from error
    except (OSError, UnicodeEncodeError) as error:
        raise AskError(f"cannot be asked: {error}") from error
    head, separator, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise AskError("its answer was cut short")
    return int(words[1]), body


def _limit(connection: socket.socket, deadline: float) -> None:
    """Bounds the next calls by the kernel's own timeouts.

    Python's would make the socket non-blocking, and then connect(2) to a Unix socket whose backlog
    is full for a moment fails instead of waiting (unix(7)).
    """
    left_us = max(int((deadline - time.monotonic()) * 1e6), 1)
    interval = struct.pack("ll", left_us // 1_000_000, left_us % 1_000_000)  # struct timeval
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)


def printable(text: str) -> str:
    """The text without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
