"""Looks again at a namespace that seldom changes, and decodes only what has.

A daemon looks every few seconds. To decode some hundred messages of rtnetlink takes pyroute2 ten
milliseconds, during which the loop's thread stands still; to have them sent takes 0.2. So they are
compared as the kernel wrote them, and what was decoded stays true while they are the same.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from egress_router.kernel.nfnetlink import HEADER, pack_attribute, walk_attributes, walk_messages

if TYPE_CHECKING:
    from egress_router.kernel.netlink import Netlink
    from egress_router.plan.state import Observed

_REQUEST, _DUMP, _INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_EXT_MASK, _SKIP_STATS = 29, 1 << 3  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS: of IPv6
_NEW_LINK, _IFINFOMSG_BYTES = 16, 16
_COUNTERS = {7, 23}  # IFLA_STATS, IFLA_STATS64: what changes with every packet
# RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE, each for all families.
_DUMPS = (
    (18, bytes(16) + pack_attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))),
    (22, bytes(8)),
    (26, bytes(12)),
    (34, bytes(12)),
)
_RECEIVE_BYTES = 65536  # the kernel writes no more than 32 KiB at once
_TIMEOUT_S = 1.0


class Recall:
    """What a namespace looks like; to be closed. `netlink` decodes, when there is need to."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._raw = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._raw.settimeout(_TIMEOUT_S)
        self._raw.bind((0, 0))
        self._written: bytes | None = None
        self._decoded: Observed | None = None

    def close(self) -> None:
        """Closes the socket."""
        self._raw.close()

    def observe(self) -> Observed:
        """As `Netlink.observe`."""
        written = self._read()
        if self._decoded is None or written is None or written != self._written:
            self._decoded = self._netlink.observe_routing()
            # Only what was the same before and after is what has been decoded in between.
            self._written = written if written == self._read() else None
        return self._netlink.with_settings(self._decoded)

    def _read(self) -> bytes | None:
        """All of it as the kernel writes it, less counters; None where it has no such moment."""
        parts: list[bytes] = []
        try:
            for kind, body in _DUMPS:
                length = HEADER.size + len(body)
                self._raw.send(HEADER.pack(length, kind, _REQUEST | _DUMP, 1, 0) + body)
                while not self._take(parts):
                    pass
        except OSError:
            return None
        return b"".join(parts)

    def _take(self, parts: list[bytes]) -> bool:
        """Receives a piece; whether it was the last one. Raises OSError."""
        last = False
        for kind, flags, content in walk_messages(self._raw.recv(_RECEIVE_BYTES)):
            if kind == _ERROR or flags & _INTERRUPTED:
                raise InterruptedError
            last = kind == _DONE
            parts.append(_without_counters(content) if kind == _NEW_LINK else content)
        return last


def _without_counters(link: bytes) -> bytes:
    attributes = walk_attributes(link[_IFINFOMSG_BYTES:])
    kept = (content for kind, content in attributes if kind not in _COUNTERS)
    return link[:_IFINFOMSG_BYTES] + b"".join(kept)
