"""Waiting until one descriptor is readable or writable, the same way on every event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


async def wait_readable(sock: socket.socket) -> None:
    """Returns when a read would not block; a pending error counts as readable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    # By number, not by object: uvloop keeps a socket object open while it is being watched.
    descriptor = sock.fileno()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_writable(sock: socket.socket) -> None:
    """Returns when a write would not block, or a connection attempt has come to its end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sock.fileno()
    loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    # The descriptor may be reported once more before the waiter runs and stops watching it.
    if not ready.done():
        ready.set_result(None)
