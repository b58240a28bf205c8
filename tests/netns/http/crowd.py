"""Many peers at once for hostile tests: one thread and a selector for all of them."""

from __future__ import annotations

import contextlib
import errno
import re
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# What any reader of HTTP/1.1, however lenient, takes for the same head: RFC 9112 without options.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELDS = (
    rb"(?:" + _TOKEN + rb": ?(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)*\r\n"
)
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.1\r\n(" + _FIELDS + rb")")
_RESPONSE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t -~\x80-\xff]*\r\n(" + _FIELDS + rb")")
_CHUNK = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as a strict reader has it; `whole`: its body ended as its head promised."""

    start: tuple[bytes, ...]
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for key, value in self.fields if key == name]


def read_messages(data: bytes, *, answers_to: Sequence[bytes] | None = None) -> list[Message]:
    """All messages of a stream; ValueError where two readers could disagree about it.

    `answers_to` are the methods that were asked with, for a stream of answers.
    """
    found: list[Message] = []
    head = _REQUEST if answers_to is None else _RESPONSE
    methods = iter(answers_to or ())
    while data:
        match = head.match(data)
        if match is None:
            if b"\r\n\r\n" in data:
                raise ValueError(f"no plain head: {data[:200]!r}")
            break  # torn within a head
        lines = match[match.re.groups].split(b"\r\n")[:-2]
        fields = tuple(
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        )
        bare = Message(start=match.groups()[:-1], fields=fields, body=b"", whole=True)
        final = answers_to is None or not bare.start[0].startswith(b"1")
        method = b"" if answers_to is None or not final else next(methods, b"")
        bodiless = answers_to is not None and (
            not final or method == b"HEAD" or bare.start[0] in {b"204", b"304"}
        )
        body, whole, used = (
            (b"", True, 0)
            if bodiless
            else _read_body(data[match.end() :], bare, until_close=answers_to is not None)
        )
        found.append(Message(start=bare.start, fields=fields, body=body, whole=whole))
        data = data[match.end() + used :]
    return found


def _read_body(data: bytes, head: Message, *, until_close: bool) -> tuple[bytes, bool, int]:
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise ValueError(f"framed twice: {head}")
    if codings:
        if codings != [b"chunked"]:
            raise ValueError(f"framed in a way of its own: {head}")
        return _read_chunks(data)
    if lengths:
        if not re.fullmatch(rb"0|[1-9][0-9]*", lengths[0]):
            raise ValueError(f"no plain length: {head}")
        length = int(lengths[0])
        return data[:length], len(data) >= length, min(length, len(data))
    return (data, True, len(data)) if until_close else (b"", True, 0)


def _read_chunks(data: bytes) -> tuple[bytes, bool, int]:
    body, position = b"", 0
    while match := _CHUNK.match(data, position):
        end = match.end() + int(match[1], 16)
        body += data[match.end() : end]
        if len(data) < end + 2:
            return body, False, len(data)
        if data[end : end + 2] != b"\r\n":
            raise ValueError(f"chunk data goes on: {data[end : end + 20]!r}")
        position = end + 2
    trailers = re.compile(rb"0\r\n" + _FIELDS).match(data, position)
    if trailers:
        return body, True, trailers.end()
    if b"\r\n\r\n" in data[position:]:
        raise ValueError(f"no plain chunk: {data[position : position + 80]!r}")
    return body, False, len(data)


@dataclass(slots=True)
class Talk:
    """What one client of `converse` got; `end` is "closed", "reset" or "open"."""

    data: bytes = b""
    end: str = "open"
    seconds: float = 0.0


def converse(
    clients: Iterable[tuple[socket.socket, bytes]],
    *,
    limit_s: float,
    slice_bytes: int = 1 << 20,
    every_s: float = 0.0,
) -> list[Talk]:
    """Sends each client's bytes, in slices if wanted, and reads until its end or the limit."""
    started = time.monotonic()
    talks, waiting = [], {}
    with selectors.DefaultSelector() as selector:
        for sock, payload in clients:
            sock.setblocking(False)
            talk = Talk()
            talks.append(talk)
            waiting[sock] = memoryview(payload)
            selector.register(sock, selectors.EVENT_READ, talk)
        while selector.get_map() and (now := time.monotonic()) < started + limit_s:
            for sock, left in list(waiting.items()):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    left = left[sock.send(left[:slice_bytes]) :]  # noqa: PLW2901 - the next slice
                waiting[sock] = left
                if not left:
                    del waiting[sock]
            pause = every_s or (0.01 if waiting else 0.2)
            while selector.get_map():
                events = selector.select(max(0.0, min(now + pause, started + limit_s) - now))
                for key, _ in events:
                    _take(key, selector, waiting, started)
                now = time.monotonic()
                if not every_s or now >= started + limit_s or not events:
                    break
    return talks


def _take(
    key: selectors.SelectorKey,
    selector: selectors.BaseSelector,
    waiting: dict[socket.socket, memoryview],
    started: float,
) -> None:
    sock, talk = key.fileobj, key.data
    assert isinstance(sock, socket.socket)
    try:
        data = sock.recv(1 << 18)
    except BlockingIOError:
        return
    except OSError as error:
        talk.end = "reset" if error.errno == errno.ECONNRESET else str(error)
    else:
        talk.data += data
        if data:
            return
        talk.end = "closed"
    talk.seconds = time.monotonic() - started
    selector.unregister(sock)
    waiting.pop(sock, None)


@dataclass(slots=True)
class Recorder:
    """A server in a thread: records what comes on each connection, and lets `react` answer.

    `react(request bytes of this connection so far, how many answers it has given)` gives the bytes
    to send, None for none, and closes behind them if they end in `CLOSE`.
    """

    listener: socket.socket
    react: Callable[[bytes, int], bytes | None]
    connections: list[bytearray] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    CLOSE = b"<close>"

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self.listener.setblocking(False)
        self.listener.listen(1024)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(10)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ, None)
            while not self._stop.is_set():
                for key, _ in selector.select(0.05):
                    if key.data is None:
                        self._accept(selector)
                    else:
                        self._serve(key, selector)
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]  # sockets alone were registered

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                seen = bytearray()
                self.connections.append(seen)
                selector.register(sock, selectors.EVENT_READ, [seen, 0])

    def _serve(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
        sock, state = key.fileobj, key.data
        assert isinstance(sock, socket.socket)
        try:
            data = sock.recv(1 << 18)
            state[0] += data
            while data and (answer := self.react(bytes(state[0]), state[1])) is not None:
                state[1] += 1
                sock.send(answer.removesuffix(self.CLOSE))
                if answer.endswith(self.CLOSE):
                    data = b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            selector.unregister(sock)
            sock.close()


def sockets_of(pid: int) -> int:
    """How many sockets a process has open."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


def wait_until(done: Callable[[], bool], within_s: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.02)  # between two looks at /proc
    return done()
