"""Word of each tracked connection that has ended, by ctnetlink (linux/nfnetlink_conntrack.h).

1. The kernel tells it to whoever listens and has CAP_NET_ADMIN; where nobody listens it costs
   nothing. It never waits for us: what does not fit into the socket is lost, and counted there.
2. The socket hears of ends alone, not of what comes before them.
3. Bytes need nf_conntrack_acct, times nf_conntrack_timestamp: settings of the pod's network
   namespace that hold for connections opened after they were set.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress_router.errors import KernelError
from egress_router.kernel.flow_messages import FlowReader
from egress_router.kernel.nfnetlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    walk_messages,
)
from egress_router.kernel.signs import refuse_overrun_errors
from egress_router.plan.ended_flow import TIMEOUTS
from egress_router.plan.state import ACCOUNTING, TIMESTAMPS

if TYPE_CHECKING:
    from egress_router.plan.ended_flow import EndedFlow

_DELETED: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_DESTROY_GROUP: Final = 3  # NFNLGRP_CONNTRACK_DESTROY
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_DROPS: Final = 8  # SK_MEMINFO_DROPS
_RECEIVE_BYTES: Final = 16_384
# Some 8,000 messages: a second of what the kernel can translate on two cores.
_BUFFER_BYTES: Final = 8 << 20
_SETTINGS: Final = Path("/proc/sys/net/netfilter")
_PROC_SYS: Final = Path("/proc/sys")


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
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._reader = FlowReader()
        self.timeouts = observe_timeouts()

    def fileno(self) -> int:
        """The socket's descriptor, readable when there is something."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def read_flows(self, most: int) -> tuple[list[EndedFlow], bool]:
        """The ends of translated connections of ours, from at most so many datagrams.

        And whether those were all that there are.
        """
        flows: list[EndedFlow] = []
        receive, parse, buffer = self._socket.recv_into, self._reader.parse, self._buffer
        for _ in range(most):
            try:
                received = receive(buffer)
            except BlockingIOError:
                return flows, True
            for kind, _, content in walk_messages(buffer[:received]):
                if kind == _DELETED and (flow := parse(content[NFGENMSG.size :])):
                    flows.append(flow)
        return flows, False

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
