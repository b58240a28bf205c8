"""The event loops that everything must work on, and pairs of connected sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvloop

from egress_router.net.poller import Poller

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(name: str, coroutine: Coroutine[Any, Any, Any], deadline_s: float = 20.0) -> Any:
    """Runs a coroutine on the loop of that name, to its end or to a deadline."""
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        return runner.run(asyncio.wait_for(coroutine, deadline_s))


@contextmanager
def polling() -> Iterator[Poller]:
    """A poller of the running loop, for the time of a scene."""
    poller = Poller(asyncio.get_running_loop())
    try:
        yield poller
    finally:
        poller.close()


def connected_pair(buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection over loopback, non-blocking, with small buffers if wanted."""
    with socket.socket() as listener:
        if buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        if buffer_bytes is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def reset(sock: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
