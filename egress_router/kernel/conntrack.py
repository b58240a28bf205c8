"""Tracked connections over ctnetlink: list them, forget those that are over, or contradict rules.

Raw messages, for there may be a hundred thousand: a router's list changes while all of them live.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from egress_router.config.destinations import Protocol
from egress_router.errors import KernelError
from egress_router.kernel.nfnetlink import (
    HEADER,
    NETLINK_NETFILTER,
    dump,
    pack_attribute,
    pack_message,
    read_attributes,
)
from egress_router.plan.flows import Flow

if TYPE_CHECKING:
    from egress_router.config.addresses import Address

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = {
    socket.IPPROTO_TCP: Protocol.TCP,
    socket.IPPROTO_UDP: Protocol.UDP,
    socket.IPPROTO_SCTP: Protocol.SCTP,
}
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET and _DELETE
_REQUEST, _ACK = 0x1, 0x4
_NESTED = 1 << 15
_OPENED, _ANSWER = 1, 2  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
_MARK, _MARK_MASK = 8, 21  # CTA_MARK, CTA_MARK_MASK
_IP, _PORTS = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
_PORT = struct.Struct("!H")
_U32 = struct.Struct("!I")
_ERROR_CODE = struct.Struct("=i")
_TIMEOUT_S = 5.0
_RECEIVE_BYTES = 65536


class Judge(Interface):
    """Says which flows are to be forgotten: `FlowJudge`, `ForwardJudge`, `RevokedForwards`."""

    def contradicts(self, flow: Flow, /) -> bool:
        """Whether the flow leads to where the ruleset would not let it go now."""


def forget_flows(judge: Judge) -> int:
    """Deletes every tracked connection that contradicts the ruleset; how many there were.

    Raises KernelError.
    """
    return sum(_forget_all(family, judge) for family in _FAMILIES)


def expire_flows() -> float:
    """Has the kernel drop the connections whose time is over; the processor's seconds for it.

    Whoever lists the table makes it do so (ctnetlink_dump_table); by itself it looks once a minute.
    The list that is asked for is empty: of no mark is the part that an empty mask leaves a 1. The
    kernel goes through the table of the whole node, whatever is in it. Raises KernelError.
    """
    nothing = pack_attribute(_MARK, _U32.pack(1)) + pack_attribute(_MARK_MASK, _U32.pack(0))
    began = time.thread_time()
    for _ in dump(_GET, socket.AF_UNSPEC, nothing, step="have old connections dropped"):
        pass
    return time.thread_time() - began


def parse_flow(message: bytes) -> Flow | None:
    """One tracked connection from the attributes of its message; None for other protocols."""
    parts = read_attributes(message)
    opened, answer = parts.get(_OPENED), parts.get(_ANSWER)
    if opened is None or answer is None:
        return None
    there, back = read_attributes(opened), read_attributes(answer)
    ports, answer_ports = read_attributes(there[_PORTS]), read_attributes(back[_PORTS])
    protocol = _PROTOCOLS.get(ports[_NUMBER][0])
    if protocol is None:
        return None
    source, destination = _addresses(there[_IP])
    answers, answers_to = _addresses(back[_IP])
    return Flow(
        protocol=protocol,
        source=source,
        source_port=_port(ports[_SOURCE_PORT]),
        destination=destination,
        destination_port=_port(ports[_DESTINATION_PORT]),
        answers=answers,
        answers_port=_port(answer_ports[_SOURCE_PORT]),
        answers_to=answers_to,
        answers_to_port=_port(answer_ports[_DESTINATION_PORT]),
    )


def _forget_all(family: int, judge: Judge) -> int:
    wrong = []
    for message in dump(_GET, family, b"", step="list the tracked connections"):
        flow = parse_flow(message)
        if flow is not None and judge.contradicts(flow):
            wrong.append(read_attributes(message)[_OPENED])
    if not wrong:
        return 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(_TIMEOUT_S)
            netlink.bind((0, 0))
            return sum(_forget(netlink, family, opened) for opened in wrong)
    except OSError as error:
        raise KernelError(
            "forget a tracked connection", error.strerror or str(error), errno=error.errno
        ) from error


def _forget(netlink: socket.socket, family: int, opened: bytes) -> bool:
    """Whether it was still there: it may have ended by itself meanwhile."""
    body = pack_attribute(_OPENED | _NESTED, opened)
    netlink.send(pack_message(_DELETE, _REQUEST | _ACK, family, body))
    answer = netlink.recv(_RECEIVE_BYTES)
    return bool(_ERROR_CODE.unpack_from(answer, HEADER.size)[0] == 0)


def _addresses(pair: bytes) -> tuple[Address, Address]:
    """Source and destination: the first two attributes of CTA_TUPLE_IP, in either family."""
    source, destination = (content for _, content in sorted(read_attributes(pair).items()))
    return ipaddress.ip_address(source), ipaddress.ip_address(destination)


def _port(content: bytes) -> int:
    return int(_PORT.unpack(content)[0])
