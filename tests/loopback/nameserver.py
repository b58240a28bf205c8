"""A nameserver that plays a script: late, silent, wrong, cut short, or outright hostile.

`async with ScriptedNameserver(script) as peer:` listens on a loopback address of its own choice at
one port for UDP and TCP; `peer.server` is what the resolver takes. The script is called for every
query and returns what to send, in order; an empty answer is silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self

from dnslib import QTYPE, RR, DNSRecord

from egress_router.net.ready import wait_readable
from egress_router.net.resolv_conf import Nameserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_addresses = itertools.count(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query as it arrived; `number` counts the queries to this server from 1."""

    data: bytes
    transport: str
    number: int
    source: tuple[str, int]

    @property
    def message(self) -> DNSRecord:
        return DNSRecord.parse(self.data)

    @property
    def name(self) -> str:
        return str(self.message.q.qname)

    @property
    def type(self) -> str:
        return QTYPE[self.message.q.qtype]

    @property
    def edns(self) -> bool:
        return any(record.rtype == QTYPE.OPT for record in self.message.ar)

    def reply(self, zone: str = "", *, auth: str = "", rcode: int = 0) -> Send:
        """An honest answer with the records of a zone text, all of them, whatever was asked."""
        reply = self.message.reply(ra=1, aa=0)
        reply.header.rcode = rcode
        reply.add_answer(*RR.fromZone(zone))
        reply.add_auth(*RR.fromZone(auth))
        return Send(data=bytes(reply.pack()))

    def truncated(self) -> Send:
        reply = self.message.reply(ra=1, aa=0)
        reply.header.tc = 1
        return Send(data=bytes(reply.pack()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Bytes to send after a pause or an event; over TCP behind their length, unless `bare`.

    `drip_s` sends them over TCP byte by byte with that pause between.
    """

    data: bytes
    after_s: float = 0.0
    until: asyncio.Event | None = None
    bare: bool = False
    drip_s: float = 0.0

    async def due(self) -> None:
        await asyncio.sleep(self.after_s)
        if self.until is not None:
            await self.until.wait()


class ScriptedNameserver:
    def __init__(
        self,
        script: Callable[[Asked], Iterable[Send] | Send],
        *,
        udp: bool = True,
        tcp: bool = True,
        hang_up: bool = True,
    ) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._udp, self._tcp, self._hang_up = udp, tcp, hang_up
        self._tasks: set[asyncio.Task[None]] = set()
        self._address = f"127.0.1.{next(_addresses) % 250 + 2}"
        self._port = 0

    @property
    def server(self) -> Nameserver:
        return Nameserver(address=ip_address(self._address), port=self._port)

    async def __aenter__(self) -> Self:
        # Both sockets are bound so that no one else gets the port; only the wanted ones serve.
        self._stream, self._datagram = self._bind()
        if self._tcp:
            self._stream.listen(128)
            self._spawn(self._accept())
        if self._udp:
            self._spawn(self._receive())
        else:
            self._datagram.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stream.close()
        self._datagram.close()

    def _bind(self) -> tuple[socket.socket, socket.socket]:
        for _ in range(20):
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stream.bind((self._address, 0))
            self._port = stream.getsockname()[1]
            with contextlib.suppress(OSError):
                datagram.bind((self._address, self._port))
                stream.setblocking(False)
                datagram.setblocking(False)
                return stream, datagram
            stream.close()
            datagram.close()
        raise AssertionError("no port is free for both transports")

    def _spawn(self, coroutine: object) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)

    def _play(self, data: bytes, transport: str, source: tuple[str, int]) -> list[Send]:
        asked = Asked(data=data, transport=transport, number=len(self.asked) + 1, source=source[:2])
        self.asked.append(asked)
        played = self._script(asked)
        return [played] if isinstance(played, Send) else list(played)

    async def _receive(self) -> None:
        while True:
            await wait_readable(self._datagram)
            data, source = self._datagram.recvfrom(4096)
            self._spawn(self._send_datagrams(self._play(data, "udp", source), source))

    async def _send_datagrams(self, sends: list[Send], source: tuple[str, int]) -> None:
        for send in sends:
            await send.due()
            self._datagram.sendto(send.data, source)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, source = await loop.sock_accept(self._stream)
            self._spawn(self._converse(connection, source))

    async def _converse(self, connection: socket.socket, source: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                data = await reader.readexactly(length)
                sends = self._play(data, "tcp", source)
                for send in sends:
                    await send.due()
                    whole = send.data if send.bare else len(send.data).to_bytes(2) + send.data
                    step = 1 if send.drip_s else len(whole) or 1
                    for start in range(0, len(whole), step):
                        writer.write(whole[start : start + step])
                        await writer.drain()
                        await asyncio.sleep(send.drip_s)
                if sends and self._hang_up:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
