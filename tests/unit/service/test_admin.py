"""What the admin endpoint refuses to listen on, and when it begins to answer."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from egress_router.errors import KernelError
from egress_router.service import admin
from egress_router.service.admin import AdminEndpoint, open_port
from egress_router.service.health import Readiness
from egress_router.service.metric_registry import Metrics

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_S = 30.0


@pytest.mark.parametrize("text", ["0.0.0.0", "::"])
def test_never_on_all_addresses(text: str) -> None:
    """The outside network must not reach it, so "all addresses" is a mistake of the caller."""
    with pytest.raises(ValueError, match="never opened on all addresses"):
        open_port(ipaddress.ip_address(text), 1)


def test_an_address_that_is_not_ours_is_a_clear_error() -> None:
    """The message names port, address and cause."""
    with pytest.raises(
        KernelError, match=r"open the admin port 9 on 192\.0\.2\.1: .*EADDRNOTAVAIL"
    ):
        open_port(ipaddress.ip_address("192.0.2.1"), 9)


class Scene:
    """An endpoint on a socket; `imports` counts how often aiohttp was asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.imports = 0
        self.imported = threading.Event()
        self.path = str(folder / "socket")
        load = admin._import_web

        def imported() -> None:
            self.imports += 1
            load()
            self.imported.set()

        monkeypatch.setattr(admin, "_import_web", imported)

    async def serve(self) -> tuple[AdminEndpoint, asyncio.Task[None]]:
        endpoint = AdminEndpoint(
            readiness=Readiness("http"),
            status=dict,
            metrics=Metrics(),
            read=partial(asyncio.sleep, 0),
        )
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        endpoint.add([listener])
        task = asyncio.create_task(endpoint.serve())
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
        return endpoint, task

    async def ask(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(self.path)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_nothing_is_imported_until_somebody_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a daemon starts, what answering takes is not in its way; a caller is answered."""
    scene = Scene(tmp_path, monkeypatch)

    async def story() -> None:
        _, task = await scene.serve()
        assert scene.imports == 0
        assert b" 200 " in await scene.ask()
        assert scene.imports == 1
        await _ended(task)

    asyncio.run(story())


def test_it_is_imported_once_the_start_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first probe need not wait for it; sockets that come later are answered too."""
    scene = Scene(tmp_path, monkeypatch)

    async def story() -> None:
        endpoint, task = await scene.serve()
        endpoint.wake()
        endpoint.wake()
        assert await asyncio.to_thread(scene.imported.wait, DEADLINE_S)
        later = open_port(ipaddress.ip_address("127.0.0.1"), 0)
        port = later.getsockname()[1]
        endpoint.add([later])
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b" 200 " in await reader.read()
            writer.close()
            await writer.wait_closed()
        assert scene.imports == 1
        await _ended(task)

    asyncio.run(story())


def test_an_end_before_the_start_closes_what_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ends at once leaves no socket that accepts and never answers."""
    scene = Scene(tmp_path, monkeypatch)

    async def story() -> None:
        _, task = await scene.serve()
        await _ended(task)
        assert scene.imports == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(scene.path)

    asyncio.run(story())
