"""The cluster's DNS server: static records over UDP and TCP, every question printed.

`python -m egress_router.lab.nameserver [--listen ADDRESS]… [--records FILE] [RECORD]…`; a record is
a line of a zone file: `www.partner.test. 5 IN A 203.0.113.10`.

1. The file is read anew for each question, so a test changes an answer by writing the file.
2. A known name without the type asked for gets an empty answer, an unknown one NXDOMAIN.
3. Each question is one JSON line on standard output, with the address that asked.
4. `ready` means that both protocols are bound on every address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dnslib import CLASS, QTYPE, RCODE, RR, DNSRecord
from dnslib.dns import DNSError

if TYPE_CHECKING:
    from collections.abc import Iterable

DNS_PORT = 53
UDP_ANSWER_BYTES = 1232  # what resolvers take without fragments (DNS flag day 2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The zone: records given for good, and a file that may change."""

    fixed: tuple[str, ...]
    path: Path | None

    def observe(self) -> tuple[RR, ...]:
        """All records as they are now."""
        text = "\n".join((*self.fixed, self.path.read_text() if self.path else ""))
        return tuple(RR.fromZone(text))


def answered(question: DNSRecord, records: Iterable[RR]) -> DNSRecord:
    """The answer to a question, aliases followed within the zone."""
    reply = question.reply()
    wanted, kind = question.q.qname, question.q.qtype
    zone = tuple(records)
    known = False
    for _ in range(len(zone) + 1):  # as many aliases as there can be without a loop
        named = [record for record in zone if record.rname == wanted]
        known = known or bool(named)
        fitting = [record for record in named if kind in {record.rtype, QTYPE.ANY}]
        aliases = [record for record in named if record.rtype == QTYPE.CNAME]
        reply.add_answer(*(fitting or aliases))
        if fitting or not aliases:
            break
        wanted = aliases[0].rdata.label
    if not known:
        reply.header.rcode = RCODE.NXDOMAIN
    return reply


def answer_bytes(records: Records, protocol: str, source: str, data: bytes) -> bytes | None:
    """Packs the answer to a packed question and prints who asked; None for what is no question."""
    try:
        question = DNSRecord.parse(data)
    except DNSError:
        return None
    if not question.questions:
        return None
    asked = {
        "client": source,
        "protocol": protocol,
        "name": str(question.q.qname),
        "type": QTYPE.get(question.q.qtype),
        "class": CLASS.get(question.q.qclass),
    }
    print(json.dumps(asked), flush=True)
    reply = answered(question, records.observe())
    packed = bytes(reply.pack())
    if protocol == "udp" and len(packed) > UDP_ANSWER_BYTES:
        return bytes(reply.truncate().pack())
    return packed


class Datagrams(asyncio.DatagramProtocol):
    """DNS over UDP."""

    transport: asyncio.DatagramTransport

    def __init__(self, records: Records) -> None:
        self._records = records

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers one question."""
        if (answer := answer_bytes(self._records, "udp", addr[0], data)) is not None:
            self.transport.sendto(answer, addr)


async def answer_stream(
    records: Records, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """DNS over TCP: length-prefixed questions until the caller ends (RFC 7766)."""
    source = writer.get_extra_info("peername")[0]
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(length)
            if (answer := answer_bytes(records, "tcp", source, data)) is None:
                return
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def serve(records: Records, listen: Iterable[str]) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    for address in listen:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        await loop.create_datagram_endpoint(
            lambda: Datagrams(records), (address, DNS_PORT), family=family
        )
        await asyncio.start_server(partial(answer_stream, records), address, DNS_PORT)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Reads the records and serves them."""
    parser = argparse.ArgumentParser(description="a DNS server with static records")
    parser.add_argument("--listen", action="append", metavar="ADDRESS", required=True)
    parser.add_argument("--records", type=Path, help="zone file, read anew for each question")
    parser.add_argument("record", nargs="*", help="a line of a zone file")
    options = parser.parse_args()
    records = Records(fixed=tuple(options.record), path=options.records)
    records.observe()  # a bad record ends us here, not at the first question
    asyncio.run(serve(records, options.listen))


if __name__ == "__main__":
    main()
