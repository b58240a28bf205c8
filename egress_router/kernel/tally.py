"""Reads what the table has counted, over netlink (linux/netfilter/nf_tables.h).

Ten thousand destinations are 10,000 elements, and 30,000 beside a fallback or in use. libnftables
would turn them into text or JSON first, which takes four times as long, and keep its one worker
from loading a ruleset.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from egress_router.kernel.nfnetlink import (
    dump,
    find_attribute,
    pack_attribute,
    read_attributes,
    walk_attributes,
)
from egress_router.plan.counting import (
    DIRECTIONS,
    NOTHING,
    Count,
    DestinationTally,
    PortTally,
    Tally,
    fallback_counter,
)
from egress_router.plan.ruleset import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress_router.plan.counting import Ports

_INET = 1  # NFPROTO_INET
_TABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_ELEMENTS = _TABLES | 13  # NFT_MSG_GETSETELEM
_GET_OBJECTS = _TABLES | 19  # NFT_MSG_GETOBJ
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_KEY, _DATA, _EXPRESSION, _KEY_END, _EXPRESSIONS = 1, 2, 7, 10, 11  # NFTA_SET_ELEM_*
_VALUE = 1  # NFTA_DATA_VALUE
_LISTED = 1  # NFTA_LIST_ELEM
_EXPRESSION_DATA = 2  # NFTA_EXPR_DATA
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2  # NFTA_COUNTER_*
_OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA, _OBJECT_NOTE = 2, 3, 4, 8  # NFTA_OBJ_*, NFTA_OBJ_USERDATA
_COUNTER = 1  # NFT_OBJECT_COUNTER
_NOTE_COMMENT = 0  # NFTNL_UDATA_OBJ_COMMENT
_NUMBER = struct.Struct("!Q")
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_VERSIONS = {2: 4, 10: 6}  # NFPROTO_IPV4, NFPROTO_IPV6


class Element(NamedTuple):
    """One element of a set or map; `end` is that of the key's interval, or the key."""

    key: bytes
    end: bytes
    data: bytes
    passed: Count


class _Layout(NamedTuple):
    """Where the parts of an element's message lie; the elements of one set differ in values alone.

    To look once for all of them halves the time.
    """

    key: slice
    end: slice
    data: slice
    packets: int
    bytes: int


def observe_tally(table: str = TABLE) -> Tally:
    """All counters of the table in force; empty without one. Needs CAP_NET_ADMIN.

    Raises KernelError.
    """
    counters, notes = _observe_counters(table)
    sent, received = (_observe_traffic(table, direction) for direction in DIRECTIONS)
    destinations = []
    for version in (4, 6):
        for kind in ("redirect", "ranges"):
            for one in observe_elements(table, f"{kind}{version}"):
                key = (version, one.key, one.end)
                found = _destination(version, one, sent.get(key), received.get(key))
                if found is not None:
                    destinations.append(found)
    destinations.sort(key=lambda one: (one.ports, one.protocol, one.address.version))
    fallbacks = (_fallback(version, counters, notes) for version in (4, 6))
    return Tally(
        counters=counters, destinations=(*destinations, *(one for one in fallbacks if one))
    )


def observe_ports(table: str, maps: Sequence[str]) -> Ports:
    """What the ports of DNS mode's table have counted; `maps` are the names of its maps.

    Raises KernelError.
    """
    connections: dict[tuple[str, int], int] = {}
    for name in maps:
        for one in observe_elements(table, name):
            key = _port_key(one.key[4:])  # behind the turn
            connections[key] = connections.get(key, 0) + one.passed.packets
    sent, received = (
        {_port_key(one.key): one.passed for one in observe_elements(table, direction)}
        for direction in DIRECTIONS
    )
    return {
        key: PortTally(
            connections=connections.get(key, 0),
            sent=sent.get(key, NOTHING),
            received=received.get(key, NOTHING),
        )
        for key in dict.fromkeys((*connections, *sent))
    }


def observe_elements(table: str, name: str) -> Iterator[Element]:
    """The elements of one set or map; none if it is not there."""
    wanted = pack_attribute(_LIST_TABLE, table.encode() + b"\0")
    wanted += pack_attribute(_LIST_SET, name.encode() + b"\0")
    length, layout = -1, None
    for message in dump(_GET_ELEMENTS, _INET, wanted, step=f"read the elements of {name}"):
        for _, element in walk_attributes(read_attributes(message).get(_LIST_ELEMENTS, b"")):
            if len(element) != length:
                length, layout = len(element), _find_layout(element)
            if layout is not None:
                yield Element(
                    element[layout.key],
                    element[layout.end],
                    element[layout.data],
                    Count(
                        packets=_NUMBER.unpack_from(element, layout.packets)[0],
                        bytes=_NUMBER.unpack_from(element, layout.bytes)[0],
                    ),
                )


def _find_layout(element: bytes) -> _Layout | None:
    """None: it is no element with a key and a counter."""
    key = find_attribute(element, _KEY, _VALUE)
    # Several statements at an element would come as a list; newer kernels may list a single one.
    for path in ((_EXPRESSION,), (_EXPRESSIONS, _LISTED)):
        packets = find_attribute(element, *path, _EXPRESSION_DATA, _COUNTER_PACKETS)
        size = find_attribute(element, *path, _EXPRESSION_DATA, _COUNTER_BYTES)
        if key is not None and packets is not None and size is not None:
            return _Layout(
                key=key,
                end=find_attribute(element, _KEY_END, _VALUE) or key,
                data=find_attribute(element, _DATA, _VALUE) or slice(0, 0),
                packets=packets.start,
                bytes=size.start,
            )
    return None


def _observe_counters(table: str) -> tuple[dict[str, Count], dict[str, str]]:
    """The named counters, and their comments."""
    counters, notes = {}, {}
    wanted = pack_attribute(_LIST_TABLE, table.encode() + b"\0")
    wanted += pack_attribute(_OBJECT_TYPE, struct.pack("!I", _COUNTER))
    for message in dump(_GET_OBJECTS, _INET, wanted, step=f"read the counters of {table}"):
        found = read_attributes(message)
        name = found[_OBJECT_NAME].rstrip(b"\0").decode()
        counters[name] = _count(found.get(_OBJECT_DATA, b""))
        note = found.get(_OBJECT_NOTE, b"")
        if len(note) > 2 and note[0] == _NOTE_COMMENT:  # type, length, content
            notes[name] = note[2 : 2 + note[1]].rstrip(b"\0").decode()
    return counters, notes


def _observe_traffic(table: str, direction: str) -> dict[tuple[int, bytes, bytes], Count]:
    """By family and key, as the redirect maps have it."""
    found = {}
    for kind in ("port", "range"):
        for one in observe_elements(table, f"{direction}_by_{kind}"):
            # The family stands in front, padded like every part of a key to four bytes.
            found[_VERSIONS.get(one.key[0], 0), one.key[4:], one.end[4:]] = one.passed
    return found


def _destination(
    version: int, one: Element, sent: Count | None, received: Count | None
) -> DestinationTally | None:
    protocol = _PROTOCOLS.get(one.key[0])
    size = 4 if version == 4 else 16
    if protocol is None or len(one.data) < size:
        return None
    address = IPv4Address(one.data[:size]) if version == 4 else IPv6Address(one.data[:size])
    port = one.data[size : size + 2]
    return DestinationTally(
        protocol=protocol,
        ports=(_port(one.key[4:]), _port(one.end[4:])),
        address=address,
        target_port=_port(port) if port else None,
        connections=one.passed.packets,
        sent=sent or NOTHING,
        received=received or NOTHING,
    )


def _fallback(
    version: int, counters: dict[str, Count], notes: dict[str, str]
) -> DestinationTally | None:
    name = fallback_counter(version)
    if name not in notes:
        return None
    sent, received = (
        counters.get(fallback_counter(version, direction), NOTHING) for direction in DIRECTIONS
    )
    return DestinationTally(
        protocol=None,
        ports=None,
        address=ip_address(notes[name]),
        target_port=None,
        connections=counters[name].packets,
        sent=sent,
        received=received,
    )


def _count(data: bytes) -> Count:
    found = read_attributes(data)
    if _COUNTER_BYTES not in found or _COUNTER_PACKETS not in found:
        return NOTHING
    return Count(
        packets=_NUMBER.unpack(found[_COUNTER_PACKETS])[0],
        bytes=_NUMBER.unpack(found[_COUNTER_BYTES])[0],
    )


def _port_key(key: bytes) -> tuple[str, int]:
    return _PROTOCOLS.get(key[0], ""), _port(key[4:])


def _port(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")
