"""Word of each tracked connection that has ended, by ctnetlink (linux/nfnetlink_conntrack.h).

1. The kernel tells it to whoever listens and has CAP_NET_ADMIN; where nobody listens it costs
   nothing. It never waits for us: what does not fit into the socket is lost, and counted there.
2. `read_messages` only takes bytes off the socket; what they mean is worked out by `parse_ended`,
   for those that are to be told.
3. Bytes need nf_conntrack_acct, times nf_conntrack_timestamp: settings of the pod's network
   namespace that hold for connections opened after they were set.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.errors import KernelError
from egress_router.kernel.nfnetlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    find_attribute,
    read_attributes,
    walk_messages,
)
from egress_router.kernel.signs import refuse_overrun_errors
from egress_router.plan.counting import Count
from egress_router.plan.ended_flow import TIMEOUTS, EndedFlow
from egress_router.plan.state import ACCOUNTING, MARK, TIMESTAMPS

if TYPE_CHECKING:
    from egress_router.plan.ended_flow import Endpoint

_DELETED = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_DESTROY_GROUP = 3  # NFNLGRP_CONNTRACK_DESTROY
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8  # SK_MEMINFO_DROPS
_RECEIVE_BYTES = 16_384
# Some 8,000 messages: a second of what the kernel can translate on two cores.
_BUFFER_BYTES = 8 << 20
_SETTINGS = Path("/proc/sys/net/netfilter")
_PROC_SYS = Path("/proc/sys")

_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO = 1, 2, 3, 4  # CTA_*
_TIMEOUT, _CT_MARK, _SENT, _RECEIVED, _TIMESTAMP = 7, 8, 9, 10, 20
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_*
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
_PACKETS, _BYTES = 1, 2  # CTA_COUNTERS_*
_START, _STOP = 1, 2  # CTA_TIMESTAMP_*
_TCP, _TCP_STATE = 1, 1  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE
_SEEN_REPLY, _ASSURED, _TRANSLATED = 0x2, 0x4, 0x20  # IPS_SEEN_REPLY, IPS_ASSURED, IPS_DST_NAT
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_U32, _U64 = struct.Struct("!I"), struct.Struct("!Q")
_NANOSECONDS = 1e9


class FlowEvents:
    """The socket; raises KernelError where the events may not be had."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 0))
            with contextlib.suppress(OSError):  # then it has the size that is usual here
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            refuse_overrun_errors(self._socket)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _DESTROY_GROUP)
        except OSError as error:
            self._socket.close()
            denied = error.errno in {errno.EPERM, errno.EACCES}
            raise KernelError(
                "listen to the events of conntrack",
                error.strerror or str(error),
                errno=error.errno,
                remedy="give the daemon the capability NET_ADMIN" if denied else "",
            ) from error
        self.timeouts = observe_timeouts()

    def fileno(self) -> int:
        """The socket's descriptor, readable when there is something."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def read_messages(self, most: int) -> list[bytes]:
        """The ends of translated connections of ours, from at most so many datagrams."""
        found = []
        for _ in range(most):
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            for kind, content in walk_messages(data):
                message = content[NFGENMSG.size :]
                if kind == _DELETED and _is_ours(message):
                    found.append(message)
        return found

    def lost(self) -> int:
        """How many messages did not fit into the socket so far."""
        data = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(data)[_DROPS])


def observe_timeouts() -> dict[str, int]:
    """How long the kernel remembers a silent connection, by the settings' names."""
    found = {}
    for name in TIMEOUTS:
        with contextlib.suppress(OSError, ValueError):
            found[name] = int((_SETTINGS / f"nf_conntrack_{name}").read_text(encoding="ascii"))
    return found


def observe_missing_settings() -> tuple[str, ...]:
    """What the kernel is not set to tell: those of `ACCOUNTING` and `TIMESTAMPS` that are off."""
    missing = []
    for path in (ACCOUNTING, TIMESTAMPS):
        try:
            on = (_PROC_SYS / path).read_text(encoding="ascii").strip() == "1"
        except OSError:
            on = False
        if not on:
            missing.append(path.replace("/", "."))
    return tuple(missing)


def parse_ended(message: bytes) -> EndedFlow | None:
    """One message of `read_messages`; None for a protocol that is not redirected."""
    found = read_attributes(message)
    opened, answer = read_attributes(found[_ORIGINAL]), read_attributes(found[_REPLY])
    protocol = _PROTOCOLS.get(read_attributes(opened[_PROTOCOL])[_NUMBER][0])
    if protocol is None:
        return None
    client, called = _endpoints(opened)
    server, source = _endpoints(answer)
    status = _u32(found.get(_STATUS))
    times = read_attributes(found.get(_TIMESTAMP, b""))
    state = find_attribute(message, _PROTOCOL_INFO, _TCP, _TCP_STATE)
    return EndedFlow(
        protocol=protocol,
        client=client,
        called=called,
        server=server,
        source=source,
        answered=bool(status & _SEEN_REPLY),
        assured=bool(status & _ASSURED),
        sent=_count(found.get(_SENT)),
        received=_count(found.get(_RECEIVED)),
        started_s=_seconds(times.get(_START)),
        ended_s=_seconds(times.get(_STOP)),
        left_s=_u32(found.get(_TIMEOUT)),
        tcp_state=message[state.start] if state else None,
    )


def _is_ours(message: bytes) -> bool:
    """Whether the connection came from the cluster and was translated."""
    status, mark = find_attribute(message, _STATUS), find_attribute(message, _CT_MARK)
    if status is None or mark is None:
        return False
    return bool(_u32(message[status]) & _TRANSLATED and _u32(message[mark]) & MARK)


def _endpoints(side: dict[int, bytes]) -> tuple[Endpoint, Endpoint]:
    """Source and destination of one direction."""
    addresses, ports = read_attributes(side[_IP]), read_attributes(side[_PROTOCOL])
    first, second = sorted(addresses)[:2]  # CTA_IP_V4_SRC and _DST, or those of IPv6 behind them
    return (
        (ipaddress.ip_address(addresses[first]), int.from_bytes(ports[_SOURCE_PORT], "big")),
        (ipaddress.ip_address(addresses[second]), int.from_bytes(ports[_DESTINATION_PORT], "big")),
    )


def _count(data: bytes | None) -> Count | None:
    if data is None:
        return None
    found = read_attributes(data)
    return Count(packets=_U64.unpack(found[_PACKETS])[0], bytes=_U64.unpack(found[_BYTES])[0])


def _seconds(data: bytes | None) -> float | None:
    return None if data is None else _U64.unpack(data)[0] / _NANOSECONDS


def _u32(data: bytes | None) -> int:
    return 0 if data is None else int(_U32.unpack(data)[0])
