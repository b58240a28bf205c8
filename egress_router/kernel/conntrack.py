"""Tracked connections over ctnetlink: list them, forget those that contradict the ruleset."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from egress_router.config.destinations import Protocol
from egress_router.plan.flows import Flow

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = {
    socket.IPPROTO_TCP: Protocol.TCP,
    socket.IPPROTO_UDP: Protocol.UDP,
    socket.IPPROTO_SCTP: Protocol.SCTP,
}
_NUMBERS = {protocol: number for number, protocol in _PROTOCOLS.items()}


class Judge(Interface):
    """Says which flows are to be forgotten: `FlowJudge`, `ForwardJudge`."""

    def contradicts(self, flow: Flow, /) -> bool:
        """Whether the flow leads to where the ruleset would not let it go now."""


def forget_flows(judge: Judge) -> int:
    """Deletes every tracked connection that contradicts the ruleset; how many there were."""
    forgotten = 0
    for family in _FAMILIES:
        conntrack: Any = NFCTSocket(nfgen_family=family)
        try:
            for flow in [f for f in _flows(conntrack) if judge.contradicts(f)]:
                forgotten += _forget(conntrack, family, flow)
        finally:
            conntrack.close()
    return forgotten


def _flows(conntrack: Any) -> Iterator[Flow]:
    for message in conntrack.dump():
        opened, answer = message.get_attr("CTA_TUPLE_ORIG"), message.get_attr("CTA_TUPLE_REPLY")
        ports = opened.get_attr("CTA_TUPLE_PROTO")
        protocol = _PROTOCOLS.get(ports.get_attr("CTA_PROTO_NUM"))
        if protocol is None:
            continue
        source, destination = _addresses(opened)
        answers, answers_to = _addresses(answer)
        answer_ports = answer.get_attr("CTA_TUPLE_PROTO")
        yield Flow(
            protocol=protocol,
            source=source,
            source_port=ports.get_attr("CTA_PROTO_SRC_PORT"),
            destination=destination,
            destination_port=ports.get_attr("CTA_PROTO_DST_PORT"),
            answers=answers,
            answers_port=answer_ports.get_attr("CTA_PROTO_SRC_PORT"),
            answers_to=answers_to,
            answers_to_port=answer_ports.get_attr("CTA_PROTO_DST_PORT"),
        )


def _addresses(side: Any) -> tuple[Any, Any]:
    pair = side.get_attr("CTA_TUPLE_IP")
    version = "V4" if pair.get_attr("CTA_IP_V4_SRC") else "V6"
    return (
        ipaddress.ip_address(pair.get_attr(f"CTA_IP_{version}_SRC")),
        ipaddress.ip_address(pair.get_attr(f"CTA_IP_{version}_DST")),
    )


def _forget(conntrack: Any, family: int, flow: Flow) -> int:
    opened = NFCTAttrTuple(
        family=family,
        saddr=str(flow.source),
        daddr=str(flow.destination),
        proto=_NUMBERS[flow.protocol],
        sport=flow.source_port,
        dport=flow.destination_port,
    )
    try:
        conntrack.entry("del", tuple_orig=opened)
    except NetlinkError:
        return 0  # it ended by itself meanwhile
    return 1
