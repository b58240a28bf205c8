"""The calling side: one connection or datagram, and the JSON line that came back.

Stands alone (standard library only), as `partner` does:
`python -I -S probe.py tcp 203.0.113.10 80 [--source A] [--source-port N] [--device L]`.

1. The answer is printed as it came, exit code 0; else `{"error": "ECONNREFUSED"}`, exit code 1.
   A connection that ends without a line is `EPIPE`.
2. `--rate S` calls again and again for S seconds, one call at a time, and prints
   `{"connections": 1234, "failed": 0, "seconds": 2.0}`: each call is connect, line, reset.
   A reset leaves no TIME_WAIT behind, so that the source ports do not run out.
3. `--echo N` sends N bytes behind a TCP call, gets them back from the partner's echo, and prints
   `{"echoed": N}`; the first byte that differs is `EBADMSG`.
4. A device is bound without privilege as long as the socket has none yet.
5. Imports are few on purpose: dataclasses alone would double the time to start.
"""

from __future__ import annotations

import argparse
import errno
import json
import select
import socket
import struct
import sys
import time

LINE_BYTES = 4096
ECHO_BYTES = 65536
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time


def call(wanted: argparse.Namespace) -> bytes:
    """Makes one call and returns the line; raises OSError with an errno."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    deadline = time.monotonic() + wanted.timeout
    with socket.socket(family, KINDS[wanted.protocol]) as sock:
        if wanted.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted.device.encode())
        if wanted.source or wanted.source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            anywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
            sock.bind((wanted.source or anywhere, wanted.source_port))
        if wanted.rate:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sock.settimeout(wanted.timeout)
        sock.connect((wanted.host, wanted.port))
        if wanted.protocol == "udp":
            sock.send(b"hello\n")
        line = b""
        while not line.endswith(b"\n"):
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            part = sock.recv(LINE_BYTES)
            if not part:
                raise BrokenPipeError(errno.EPIPE, "ended without an answer")
            line += part
        if wanted.echo:
            exchange(sock, bytes(range(256)) * -(-wanted.echo // 256), deadline)
            return json.dumps({"echoed": wanted.echo}).encode() + b"\n"
        return line


def exchange(sock: socket.socket, sent: bytes, deadline: float) -> None:
    """Sends and receives at the same time until all of it is back."""
    sock.setblocking(False)
    there = back = 0
    while back < len(sent):
        writers = [sock] if there < len(sent) else []
        left = max(deadline - time.monotonic(), 0)
        readable, writable, _ = select.select([sock], writers, [], left)
        if not readable and not writable:
            raise TimeoutError(errno.ETIMEDOUT, f"{back} of {len(sent)} bytes came back")
        if writable:
            there += sock.send(sent[there : there + ECHO_BYTES])
        if readable:
            part = sock.recv(ECHO_BYTES)
            if not part:
                raise BrokenPipeError(errno.EPIPE, "ended before everything was back")
            if part != sent[back : back + len(part)]:
                raise OSError(errno.EBADMSG, "other bytes came back")
            back += len(part)


def measure(wanted: argparse.Namespace) -> dict[str, float]:
    """Counts how many calls one caller completes, one after the other."""
    connections = failed = 0
    start = now = time.monotonic()
    while now - start < wanted.rate:
        try:
            call(wanted)
            connections += 1
        except OSError:
            failed += 1
        now = time.monotonic()
    return {"connections": connections, "failed": failed, "seconds": round(now - start, 3)}


def error_name(error: OSError) -> str:
    """The name of an error, `ECONNREFUSED`; one without a number is a timeout."""
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno or 0, str(error))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="calls a partner and prints what it saw")
    parser.add_argument("protocol", choices=sorted(KINDS))
    parser.add_argument("host", help="an address; names are not looked up")
    parser.add_argument("port", type=int)
    parser.add_argument("--source", default="")
    parser.add_argument("--source-port", type=int, default=0)
    parser.add_argument("--device", default="")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for the whole call")
    parser.add_argument("--echo", type=int, default=0, help="bytes to send and get back (TCP)")
    parser.add_argument("--rate", type=float, default=0.0, help="seconds to call for, and count")
    return parser.parse_args()


def main() -> int:
    """Calls once, or counts."""
    options = parse_arguments()
    if options.rate:
        print(json.dumps(measure(options)))
        return 0
    try:
        sys.stdout.write(call(options).decode())
    except OSError as error:
        print(json.dumps({"error": error_name(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
