"""The outside server: tells each caller, in one JSON line, which address it came from.

Stands alone (standard library only) so that a bare interpreter starts it quickly:
`python -I -S partner.py --tcp 80,443 --udp 5000-5010`, or `python -m egress_router.lab.partner`.

1. A TCP connection gets the line at once and everything it sends back until it ends its half.
2. A UDP datagram gets the line back, from the address it was sent to.
3. `ready` on standard output means that every port is bound, in both families.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
from typing import Any, cast

BACKLOG = 4096  # more than a load generator opens between two turns of the loop
DATAGRAM_BYTES = 65535
CONTROL_BYTES = socket.CMSG_SPACE(20)  # struct in6_pktinfo, the larger of the two
IP_PKTINFO = 8  # linux/in.h; named by Python from 3.14 on


def parse_ports(text: str) -> tuple[int, ...]:
    """`80,5000-5010` as numbers; empty text is no port."""
    ports: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        ports.extend(range(int(first), int(last or first) + 1))
    return tuple(ports)


def render_line(protocol: str, source: tuple[Any, ...], local: tuple[Any, ...]) -> bytes:
    """The answer: who was seen, and where it was reached."""
    seen = {
        "protocol": protocol,
        "source": source[0],
        "source_port": source[1],
        "local": local[0],
        "local_port": local[1],
    }
    return json.dumps(seen).encode() + b"\n"


class Echo(asyncio.Protocol):
    """One TCP connection: the line, then an echo that never holds more than the peer takes."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the line."""
        self.transport = cast("asyncio.Transport", transport)
        source = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        if source:
            self.transport.write(render_line("tcp", source, local))

    def data_received(self, data: bytes) -> None:
        """Sends back what came."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """Stops reading from a caller that does not read."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Goes on when the caller does."""
        if not self.transport.is_closing():
            self.transport.resume_reading()


def open_udp(family: socket.AddressFamily, port: int) -> socket.socket:
    """A socket on every address of a family that learns which address a datagram was sent to."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.bind(("::", port))
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", port))
    return sock


def answer_datagram(sock: socket.socket, port: int) -> None:
    """Answers one datagram from the address it was sent to, however many the host has."""
    try:
        _, control, _, source = sock.recvmsg(DATAGRAM_BYTES, CONTROL_BYTES)
        level, kind, data = control[0]
        if level == socket.IPPROTO_IPV6:
            local = socket.inet_ntop(socket.AF_INET6, data[:16])
            reply = data[:16] + struct.pack("=I", 0)
        else:
            local = socket.inet_ntop(socket.AF_INET, data[8:12])
            reply = struct.pack("=I4s4x", 0, data[8:12])
        line = render_line("udp", source, (local, port))
        sock.sendmsg([line], [(level, kind, reply)], 0, source)
    except OSError:
        return  # a caller that has gone: its ICMP error is reported on our next call


async def serve(tcp: tuple[int, ...], udp: tuple[int, ...]) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    for port in tcp:
        await loop.create_server(Echo, ["0.0.0.0", "::"], port, backlog=BACKLOG)
    for port in udp:
        for family in (socket.AF_INET, socket.AF_INET6):
            sock = open_udp(family, port)
            loop.add_reader(sock, answer_datagram, sock, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Reads the ports and serves them."""
    parser = argparse.ArgumentParser(description="tells callers which address they came from")
    parser.add_argument("--tcp", type=parse_ports, default=(), help="such as 80,8000-8010")
    parser.add_argument("--udp", type=parse_ports, default=())
    options = parser.parse_args()
    asyncio.run(serve(options.tcp, options.udp))


if __name__ == "__main__":
    main()
