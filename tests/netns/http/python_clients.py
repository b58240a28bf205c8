"""Python's HTTP clients, as an application in the cluster uses them: by the proxy variables alone.

`python python_clients.py CLIENT URL [CA]` prints the body of the answer.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import urllib.request


def by_urllib(url: str, authority: str) -> str:
    """The standard library; before Python 3.12 its CONNECT is HTTP/1.0 and has no Host."""
    context = ssl.create_default_context(cafile=authority)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(url, timeout=10) as answer:
        return str(answer.read().decode())


def by_requests(url: str, authority: str) -> str:
    """Two requests of one session."""
    import requests  # noqa: PLC0415 - each client is imported by its own process only

    with requests.Session() as session:
        session.get(url, verify=authority, timeout=10).raise_for_status()
        return session.get(url, verify=authority, timeout=10).text


def by_httpx(url: str, authority: str) -> str:
    """Two requests of one client."""
    import httpx  # noqa: PLC0415 - as above

    with httpx.Client(verify=ssl.create_default_context(cafile=authority)) as client:
        client.get(url).raise_for_status()
        return str(client.get(url).text)


def by_aiohttp(url: str, authority: str) -> str:
    """The proxy from the environment."""
    import aiohttp  # noqa: PLC0415 - as above

    async def get() -> str:
        context = ssl.create_default_context(cafile=authority)
        async with (
            aiohttp.ClientSession(trust_env=True) as session,
            session.get(url, ssl=context) as answer,
        ):
            return await answer.text()

    return asyncio.run(get())


def by_websocket(url: str, authority: str) -> str:
    """What the server says first, if a megabyte comes back whole behind it."""
    import aiohttp  # noqa: PLC0415 - as above

    async def talk() -> str:
        context = ssl.create_default_context(cafile=authority)
        async with (
            aiohttp.ClientSession(trust_env=True) as session,
            session.ws_connect(url, ssl=context, max_msg_size=1 << 21) as socket,
        ):
            seen = await socket.receive_str()
            await socket.send_str("grüezi")
            if await socket.receive_str() != "grüezi":
                raise RuntimeError("another text came back")
            block = bytes(range(256)) * 4096
            await socket.send_bytes(block)
            if await socket.receive_bytes() != block:
                raise RuntimeError("other bytes came back")
            return seen

    return asyncio.run(talk())


CLIENTS = {
    "urllib": by_urllib,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
    "websocket": by_websocket,
}

if __name__ == "__main__":
    sys.stdout.write(CLIENTS[sys.argv[1]](sys.argv[2], sys.argv[3]))
