"""The admin endpoint: /healthz, /readyz, /status, /metrics and a page at /, read only.

1. It always answers on an abstract Unix socket of the pod's network namespace,
   `@egress-router/<mode>`: no file, no port, nothing reachable from outside the pod.
2. It answers on a TCP port only where it is given addresses, and never on all of them: the outside
   network must not reach it, nor the proxy itself.
3. The socket's name is taken before anything else happens, so a second daemon of the same mode in
   the pod ends with a clear error.
   aiohttp is imported, in a thread, once the mode serves or somebody calls, whichever is first: it
   would otherwise take a third of the daemon's start. Until then connections wait in the backlog.
4. Idle connections are closed soon, and there are never more than `CONNECTIONS_LIMIT`: whoever
   hoards them loses the oldest.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Any

from egress_router.config.variables import ADMIN_PORT
from egress_router.errors import KernelError
from egress_router.service.admin_socket import SOCKET_PREFIX, socket_name
from egress_router.service.encoding import encode_document
from egress_router.service.metric_registry import import_library
from egress_router.service.page import load_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from ipaddress import IPv4Address, IPv6Address

    from aiohttp import web
    from aiohttp.web_protocol import RequestHandler

    from egress_router.service.health import Readiness
    from egress_router.service.metric_registry import Metrics

BACKLOG = 128
# Two probes, a scraper and a person use five connections; more is a mistake or an attack.
CONNECTIONS_LIMIT = 64
IDLE_S = 15.0
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


def open_unix_socket(mode: str) -> socket.socket:
    """Takes the mode's name in this network namespace; raises KernelError if it is taken."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(socket_name(mode))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        raise KernelError(
            f"open the admin socket @{SOCKET_PREFIX}{mode}",
            f"another {mode} daemon runs in this pod" if taken else str(error.strerror),
            errno=error.errno,
            remedy="run one daemon of each mode" if taken else "",
        ) from error
    return listener


def open_port(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """Listens on one address; raises KernelError if that fails, ValueError for "all addresses"."""
    if address.is_unspecified:
        raise ValueError(f"the admin port is never opened on all addresses ({address})")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise KernelError(
            f"open the admin port {port} on {address}",
            str(error.strerror),
            errno=error.errno,
            remedy=f"choose another {ADMIN_PORT.name}" if error.errno == errno.EADDRINUSE else "",
        ) from error
    return listener


class AdminEndpoint:
    """Answers from a readiness, a status document and metrics; none of them may block.

    `read` is awaited before the latter two: it brings what they tell up to date.
    """

    def __init__(
        self,
        *,
        readiness: Readiness,
        status: Callable[[], dict[str, Any]],
        metrics: Metrics,
        read: Callable[[], Awaitable[None]],
    ) -> None:
        self._readiness = readiness
        self._status = status
        self._metrics = metrics
        self._read = read
        self._server: web.Server | None = None
        self._listeners: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._news = asyncio.Event()
        self._awake = asyncio.Event()

    def add(self, sockets: Iterable[socket.socket]) -> None:
        """Answers on more listening sockets, which are closed at the end; only while it serves."""
        for listener in sockets:
            listener.setblocking(False)
            self._sockets.append(listener)
            if not self._awake.is_set():
                asyncio.get_running_loop().add_reader(listener, self.wake)
        self._news.set()

    def wake(self) -> None:
        """Says that the daemon's start is over, or a caller waits: imports what answering takes."""
        if not self._awake.is_set():
            self._awake.set()
            for listener in self._sockets:  # one that has a caller would call back in every turn
                asyncio.get_running_loop().remove_reader(listener)

    async def serve(self) -> None:
        """Answers on what was added until cancelled, then closes all of it."""
        try:
            await self._awake.wait()
            await asyncio.to_thread(_import_web)
            from aiohttp import web  # noqa: PLC0415 - 0.3 s; done by the thread above

            self._server = web.Server(self._answer, access_log=None, keepalive_timeout=IDLE_S)
            while True:
                self._news.clear()
                await self._listen()
                await self._news.wait()
        finally:
            self.wake()
            for listener in self._sockets:
                listener.close()
            for server in self._listeners:
                server.close()
            if self._server is not None:
                await self._server.shutdown(0)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while self._sockets:
            listener = self._sockets.pop()
            self._listeners.append(
                await loop.create_unix_server(self._accept, sock=listener)
                if listener.family == socket.AF_UNIX
                else await loop.create_server(self._accept, sock=listener)
            )

    def _accept(self) -> RequestHandler:
        assert self._server is not None  # noqa: S101 - set before the first listener exists
        connections = self._server.connections
        if len(connections) >= CONNECTIONS_LIMIT:
            connections[0].force_close()
        return self._server()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web  # noqa: PLC0415 - loaded already

        if request.method not in {"GET", "HEAD"}:
            return web.Response(
                status=405, text="only GET and HEAD\n", headers={"Allow": "GET, HEAD"}
            )
        status, body, content_type = await self._document(request)
        headers = {
            "Content-Type": content_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",  # a name in the status is no page either
            "Referrer-Policy": "no-referrer",
        }
        if content_type == HTML:
            headers["Content-Security-Policy"] = load_page()[1]
        return web.Response(status=status, body=body, headers=headers)

    async def _document(self, request: web.BaseRequest) -> tuple[int, bytes, str]:
        match request.path:
            case "/":
                return 200, load_page()[0], HTML
            case "/healthz":
                return 200, b"alive\n", TEXT
            case "/readyz":
                return self._readyz()
            case "/status":
                await self._read()
                return 200, await encode_document(self._status()), "application/json"
            case "/metrics":
                await asyncio.to_thread(import_library)
                await self._read()
                text, content_type = self._metrics.render(request.headers.get("Accept", ""))
                return 200, text, content_type
            case _:
                return 404, b"/ /healthz /readyz /status /metrics\n", TEXT

    def _readyz(self) -> tuple[int, bytes, str]:
        snapshot = self._readiness.snapshot()
        if snapshot.ready:
            return 200, b"ready\n", TEXT
        return 503, ("\n".join(snapshot.reasons) + "\n").encode(), TEXT


def _import_web() -> None:
    import aiohttp.web  # noqa: PLC0415, F401 - called in a thread
