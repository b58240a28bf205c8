"""The partner's application behind aiohttp: answers in chunks, digests of uploads, WebSocket echo.

`python origin_app.py ADDRESS PORT`; `ready` on standard output means that it listens.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from aiohttp import WSMsgType, web

CHUNKS = tuple(bytes((65 + number,)) * (number * 997 + 1) for number in range(26))


async def answer_digest(request: web.Request) -> web.Response:
    """What arrived: a digest of the body, and the head fields that a proxy could have touched."""
    digest, count = hashlib.sha256(), 0
    async for piece in request.content.iter_chunked(65536):
        digest.update(piece)
        count += len(piece)
    return web.json_response(
        {
            "source": request.remote,
            "method": request.method,
            "target": request.raw_path,
            "digest": digest.hexdigest(),
            "bytes": count,
            "fields": [(name, value) for name, value in request.headers.items()],
        }
    )


async def answer_chunks(request: web.Request) -> web.StreamResponse:
    """Some chunks, each in a write of its own."""
    response = web.StreamResponse(headers={"X-Source": request.remote or ""})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for chunk in CHUNKS:
        await response.write(chunk)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def answer_websocket(request: web.Request) -> web.WebSocketResponse:
    """First the address that was seen, then everything back as it came."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.remote or "")
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def serve(address: str, port: int) -> None:
    """Serves until killed."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/chunks", answer_chunks)
    app.router.add_get("/websocket", answer_websocket)
    app.router.add_route("*", "/{tail:.*}", answer_digest)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
