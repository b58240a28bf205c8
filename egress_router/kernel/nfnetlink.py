"""nfnetlink messages, raw: what is read by the thousand is worth no objects (libmnl's format).

pyroute2 takes some 0.3 ms for a message of conntrack's; this takes a thirtieth of that.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, TypeVar

from egress_router.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

Data = TypeVar("Data", bytes, memoryview)

NETLINK_NETFILTER = 12
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
NFGENMSG = struct.Struct("=BBH")
PAYLOAD = HEADER.size + NFGENMSG.size
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
ATTRIBUTE = struct.Struct("=HH")
TYPE = 0x3FFF  # without the bits "nested" and "network byte order"
_RECEIVE_BYTES = 1 << 20
_TIMEOUT_S = 5.0


def walk_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute, in order; ends at the first that does not fit."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & TYPE, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def read_attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of one message or nest by type; of several of a type, the last."""
    return dict(walk_attributes(data))


def find_attribute(data: bytes, *path: int) -> slice | None:
    """Where the content of a nested attribute lies, None if it is not there."""
    start, end = 0, len(data)
    for wanted in path:
        while start + 4 <= end:
            length, kind = ATTRIBUTE.unpack_from(data, start)
            if length < 4 or start + length > end:
                return None
            if kind & TYPE == wanted:
                start, end = start + 4, start + length
                break
            start += (length + 3) & ~3
        else:
            return None
    return slice(start, end)


def pack_attribute(kind: int, content: bytes) -> bytes:
    """One attribute, padded."""
    length = 4 + len(content)
    return ATTRIBUTE.pack(length, kind) + content + b"\0" * (-length % 4)


def pack_message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    """One nfnetlink message."""
    header = HEADER.pack(PAYLOAD + len(body), kind, flags, 1, 0)
    return header + NFGENMSG.pack(family, 0, 0) + body


def walk_messages(data: Data) -> Iterator[tuple[int, int, Data]]:
    """Type, flags and content, nlmsghdr left off, of each message in a datagram."""
    offset, end = 0, len(data)
    while offset + HEADER.size <= end:
        length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > end:
            return
        yield kind, flags, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def dump(kind: int, family: int, body: bytes, *, step: str) -> Iterator[bytes]:
    """The attributes of each message of a dump; nothing if what is asked for is not there.

    Raises KernelError, with `step` for what was tried.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(_TIMEOUT_S)
            netlink.bind((0, 0))
            netlink.send(pack_message(kind, _REQUEST | _DUMP, family, body))
            while True:
                for answer, _, content in walk_messages(netlink.recv(_RECEIVE_BYTES)):
                    if answer == _DONE or (answer == _ERROR and _is_nothing(content)):
                        return
                    yield content[NFGENMSG.size :]
    except OSError as error:
        raise KernelError(step, error.strerror or str(error), errno=error.errno) from error


def _is_nothing(content: bytes) -> bool:
    """Whether the kernel's error says that there is no such thing; raises any other as OSError."""
    code = -int(struct.unpack_from("=i", content)[0])
    if code == errno.ENOENT:
        return True
    raise OSError(code, os.strerror(code))
