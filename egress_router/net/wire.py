"""DNS messages on the wire: queries out, answers in, the latter scanned before dnslib sees them.

1. Nothing reaches dnslib that the scan has not walked (scan.py says why). dnslib then parses the
   data of those records alone that a stub resolver uses, one by one. It is no judge of bytes:
   whatever it raises, of any type, means that the answer is malformed.
2. An answer that does not belong to the query (RFC 5452, section 9.1) is foreign, not malformed:
   the caller goes on waiting for the right one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from dnslib import EDNS0, RDMAP, DNSHeader, DNSLabel, DNSQuestion, DNSRecord
from dnslib.label import DNSBuffer

from egress_router.net.scan import HEADER_BYTES, MalformedAnswerError, RecordType, Scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.net.endpoint import IPAddress
    from egress_router.net.scan import Labels, Span

UDP_ANSWER_MAX_BYTES = 1232  # what we announce by EDNS: no fragments on any IPv6 path (RFC 9715)
TCP_ANSWER_MAX_BYTES = 4096  # 64 records with names of the longest kind fit; more is an attack

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_TAIL = struct.Struct("!HH")
_CLASS_IN = 1
_QR, _OPCODE, _TC, _RCODE = 0x8000, 0x7800, 0x0200, 0x000F


class Rcode(IntEnum):
    """Answer codes that decide what the resolver does next."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16  # extended, RFC 6891


class ForeignAnswerError(Exception):
    """The message is no answer to this query; the right one may still come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question as it goes out."""

    id: int
    name: Labels
    type: RecordType
    edns: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A CNAME record of the answer section."""

    owner: Labels
    target: Labels
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A record of the answer section that has the type asked for."""

    owner: Labels
    address: IPAddress
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said; `negative_ttl_s` comes from the SOA record, RFC 2308 section 5."""

    rcode: int
    truncated: bool
    aliases: tuple[Alias, ...] = ()
    addresses: tuple[Address, ...] = ()
    negative_ttl_s: int | None = None


def render_query(query: Query) -> bytes:
    """The query's bytes, recursion desired, announcing 1,232 bytes unless EDNS is off."""
    message = DNSRecord(
        DNSHeader(id=query.id, qr=0, aa=0, rd=1),
        q=DNSQuestion(DNSLabel(query.name), int(query.type), _CLASS_IN),
    )
    if query.edns:
        message.add_ar(EDNS0(udp_len=UDP_ANSWER_MAX_BYTES))
    return bytes(message.pack())


def parse_answer(data: bytes, query: Query, *, limit: int) -> Answer:
    """The answer to `query` in a message of at most `limit` bytes.

    Raises ForeignAnswerError if it is not ours to judge, MalformedAnswerError if it is but breaks
    a rule. A truncated answer carries no records: it is to be asked again over TCP.
    """
    if len(data) < HEADER_BYTES:
        raise ForeignAnswerError
    ident, flags, *counts = _HEADER.unpack_from(data)
    if ident != query.id or not flags & _QR or flags & _OPCODE:
        raise ForeignAnswerError
    rcode = flags & _RCODE
    if counts[0] == 0 and rcode == Rcode.FORMERR:
        # Servers from before EDNS refuse it with a bare header, RFC 6891 section 7.
        return Answer(rcode=rcode, truncated=False)
    scan = Scan(data)
    offset = _check_question(scan, data, counts[0], query)
    if flags & _TC:
        return Answer(rcode=rcode, truncated=True)
    if len(data) > limit:
        raise MalformedAnswerError(f"{len(data)} bytes, at most {limit} are read")
    spans = scan.records(offset, counts[1:])
    rcode |= sum((span.ttl_s >> 24) << 4 for span in spans if span.type == RecordType.OPT)
    return Answer(
        rcode=rcode,
        truncated=False,
        aliases=tuple(_parse_aliases(data, spans)),
        addresses=tuple(_parse_addresses(data, spans, query.type)),
        negative_ttl_s=_parse_negative_ttl(data, spans),
    )


def _check_question(scan: Scan, data: bytes, count: int, query: Query) -> int:
    if count != 1:
        raise ForeignAnswerError
    try:
        name, offset = scan.name(HEADER_BYTES)
        rtype, rclass = _QUESTION_TAIL.unpack_from(data, offset)
    except (MalformedAnswerError, struct.error) as error:
        raise ForeignAnswerError from error
    if name != query.name or rtype != query.type or rclass != _CLASS_IN:
        raise ForeignAnswerError
    return offset + _QUESTION_TAIL.size


def _parse_aliases(data: bytes, spans: tuple[Span, ...]) -> Iterator[Alias]:
    for span in spans:
        if span.section == 0 and span.rclass == _CLASS_IN and span.type == RecordType.CNAME:
            target = tuple(label.lower() for label in _parse(data, span).label.label)
            yield Alias(owner=span.owner, target=target, ttl_s=span.ttl_s)


def _parse_addresses(data: bytes, spans: tuple[Span, ...], wanted: RecordType) -> Iterator[Address]:
    kind = IPv4Address if wanted == RecordType.A else IPv6Address
    for span in spans:
        if span.section == 0 and span.rclass == _CLASS_IN and span.type == wanted:
            address = kind(bytes(_parse(data, span).data))
            yield Address(owner=span.owner, address=address, ttl_s=span.ttl_s)


def _parse_negative_ttl(data: bytes, spans: tuple[Span, ...]) -> int | None:
    for span in spans:
        if span.section == 1 and span.rclass == _CLASS_IN and span.type == RecordType.SOA:
            return min(span.ttl_s, int(_parse(data, span).times[4]))
    return None


def _parse(data: bytes, span: Span) -> Any:
    buffer = DNSBuffer(data)
    buffer.offset = span.offset
    try:
        return RDMAP[RecordType(span.type).name].parse(buffer, span.length)
    except Exception as error:  # rule 1
        raise MalformedAnswerError(f"a record of type {span.type} cannot be parsed") from error
