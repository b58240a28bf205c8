"""A walk over a DNS answer that costs little whatever the answer holds.

A parser that expands every compressed name anew takes half a minute for 64 KB of the right bytes,
and one that follows pointers wherever they lead may not end at all. So this walk comes first, and
refuses what has too many records or labels, or a name too long, or a pointer that leads anywhere
but backwards. It allots nothing but the labels it has passed, each name once.

Names are tuples of lower-case labels. As text, a label that holds a dot could equal two labels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

Labels: TypeAlias = tuple[bytes, ...]

HEADER_BYTES = 12
RECORDS_MAX = 64
NAME_MAX_OCTETS = 255  # RFC 1035, section 3.1
LABEL_MAX_OCTETS = 63
POINTERS_MAX = 32  # honest compression needs one or two for each name
LABELS_MAX = 4096  # in all names of a message together; 64 CNAME records of 16 labels: 3,072

_RECORD_TAIL = struct.Struct("!HHIH")


class RecordType(IntEnum):
    """The record types that concern us; the rest are stepped over."""

    A = 1
    CNAME = 5
    SOA = 6
    AAAA = 28
    OPT = 41


class MalformedAnswerError(Exception):
    """The message answers this query but breaks the protocol or our limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What the scan has read of one record, and where its data lies."""

    owner: Labels
    section: int
    type: int
    rclass: int
    ttl_s: int
    offset: int
    length: int


class Scan:
    """One walk over one message; counts the labels it passes, so that no message is much work."""

    __slots__ = ("_data", "_known", "_labels_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, tuple[Labels, int, int]] = {}
        self._labels_left = LABELS_MAX

    def name(self, start: int) -> tuple[Labels, int]:
        """The labels of the name at `start`, in lower case, and the offset behind it."""
        if start not in self._known:
            self._known[start] = self._walk_name(start)
        labels, behind, _ = self._known[start]
        return labels, behind

    def _walk_name(self, start: int) -> tuple[Labels, int, int]:
        # Every pointer leads before the stretch of labels it was met in: so the walk always ends.
        data = self._data
        labels: list[bytes] = []
        offset, stretch, octets, pointers = start, start, 1, 0
        behind: int | None = None
        while True:
            if offset >= len(data):
                raise MalformedAnswerError("a name runs over the end")
            length = data[offset]
            if length > LABEL_MAX_OCTETS:
                target = _pointer_target(data, offset)
                known = self._known.get(target) if not labels else None
                pointers += 1 if known is None else 1 + known[2]
                if target >= stretch or pointers > POINTERS_MAX:
                    raise MalformedAnswerError("a compression pointer leads astray")
                behind = offset + 2 if behind is None else behind
                if known is not None:
                    return known[0], behind, pointers
                offset = stretch = target
                continue
            offset += 1 + length
            if length == 0:
                return tuple(labels), offset if behind is None else behind, pointers
            octets += 1 + length
            self._charge(1)
            if octets > NAME_MAX_OCTETS or offset > len(data):
                raise MalformedAnswerError("a name is too long")
            labels.append(data[offset - length : offset].lower())

    def records(self, offset: int, counts: list[int]) -> tuple[Span, ...]:
        """Walks all records from `offset`, by the counts of the three sections."""
        if sum(counts) > RECORDS_MAX:
            raise MalformedAnswerError(f"{sum(counts)} records, at most {RECORDS_MAX} are read")
        spans: list[Span] = []
        for section, count in enumerate(counts):
            for _ in range(count):
                span = self._record(offset, section)
                offset = span.offset + span.length
                spans.append(span)
        return tuple(spans)

    def _record(self, offset: int, section: int) -> Span:
        owner, offset = self.name(offset)
        if offset + _RECORD_TAIL.size > len(self._data):
            raise MalformedAnswerError("a record runs over the end")
        rtype, rclass, ttl_s, length = _RECORD_TAIL.unpack_from(self._data, offset)
        offset += _RECORD_TAIL.size
        if offset + length > len(self._data):
            raise MalformedAnswerError("a record runs over the end")
        if not self._fits(rtype, offset, length):
            raise MalformedAnswerError(f"a record of type {rtype} does not have its length")
        return Span(
            owner=owner,
            section=section,
            type=rtype,
            rclass=rclass,
            ttl_s=ttl_s,
            offset=offset,
            length=length,
        )

    def _fits(self, rtype: int, offset: int, length: int) -> bool:
        match rtype:
            case RecordType.A:
                return length == 4
            case RecordType.AAAA:
                return length == 16
            case RecordType.CNAME:
                return self._charged_name(offset) == offset + length
            case RecordType.SOA:
                behind = self._charged_name(self._charged_name(offset))
                return behind + 20 == offset + length
            case _:
                return True

    def _charged_name(self, offset: int) -> int:
        # A name within a record's data is expanded again by whoever parses it.
        labels, behind = self.name(offset)
        self._charge(len(labels))
        return behind

    def _charge(self, labels: int) -> None:
        self._labels_left -= labels
        if self._labels_left < 0:
            raise MalformedAnswerError("too many labels")


def _pointer_target(data: bytes, offset: int) -> int:
    if data[offset] < 0xC0 or offset + 1 >= len(data):
        raise MalformedAnswerError("a label of a kind that does not exist")
    target = (data[offset] & 0x3F) << 8 | data[offset + 1]
    if target < HEADER_BYTES:
        raise MalformedAnswerError("a compression pointer leads into the header")
    return target
