"""Signs of change that cost next to nothing to look for.

1. `canary_sings`: whether our table is in force, without privilege. The table rejects one spare
   loopback address with a code that nothing else answers with there.
2. `RulesetSign`: a number that changes with every nftables transaction of the namespace; so
   the table needs to be listed only after somebody changed something. Needs CAP_NET_ADMIN.
3. `wake_neighbour`: has the kernel ask for a station on a link, whose neighbour table then tells
   whether it answered, without privilege.
4. `open_route_watch`: a netlink socket that becomes readable when a link, address, route or rule
   changes. What changed is not told: whoever is woken observes afresh, so no event can be missed.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING

from egress_router.kernel.nfnetlink import (
    ATTRIBUTE,
    HEADER,
    NETLINK_NETFILTER,
    PAYLOAD,
    pack_message,
)
from egress_router.plan.ruleset import CANARY_ADDRESS, CANARY_PORT

if TYPE_CHECKING:
    from egress_router.config.addresses import Address

_CANARY_TIMEOUT_S = 1.0
_NETLINK_TIMEOUT_S = 1.0
_SOL_NETLINK, _NO_ENOBUFS = 270, 5
_NFT_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_REQUEST = 1
_ERROR = 2
_RECEIVE_BYTES = 65536
_DISCARD_PORT = 9  # RFC 863

# RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE; IPV6_RULE is group 19.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18


def canary_sings() -> bool:
    """Whether the table in force rejects the canary address; False if anything else answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as canary:
        canary.settimeout(_CANARY_TIMEOUT_S)
        try:
            canary.connect((CANARY_ADDRESS, CANARY_PORT))
        except OSError as error:
            return error.errno == errno.EHOSTUNREACH  # admin-prohibited, as Linux tells it
    return False


class RulesetSign:
    """Asks for the generation of the namespace's ruleset, always over the same socket.

    nf_tables lets go of a socket only when it has cleared up what the last transaction replaced,
    which takes 10 ms and more.
    """

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None

    def close(self) -> None:
        """Closes the socket; the next question opens another."""
        netlink, self._netlink = self._netlink, None
        if netlink is not None:
            netlink.close()

    def generation(self) -> int | None:
        """The number, or None where it may not be asked."""
        question = pack_message(_NFT_GETGEN, _REQUEST, socket.AF_UNSPEC, b"")
        try:
            netlink = self._netlink or self._open()
            netlink.send(question)
            answer = netlink.recv(_RECEIVE_BYTES)
        except OSError:
            self.close()  # an answer that comes late would be taken for that to the next question
            return None
        if HEADER.unpack_from(answer)[1] == _ERROR:
            return None
        # The first attribute is NFTA_GEN_ID, big-endian as all of nftables' numbers are.
        return int(struct.unpack_from("!I", answer, PAYLOAD + ATTRIBUTE.size)[0])

    def _open(self) -> socket.socket:
        self._netlink = netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER
        )
        netlink.settimeout(_NETLINK_TIMEOUT_S)
        netlink.bind((0, 0))
        return netlink


def wake_neighbour(address: Address, link: str) -> None:
    """Has the kernel ask (ARP, ND) for an address on a link, if it does not know where it is.

    By an empty datagram to its discard port, which leaves only once the address is known.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode() + b"\0")
            scope = (0, socket.if_nametoindex(link)) if address.version == 6 else ()
            sock.sendto(b"", (str(address), _DISCARD_PORT, *scope))
        except OSError:
            return  # the link or the route is gone, which the look itself tells


def open_route_watch() -> socket.socket:
    """A non-blocking socket, readable after any change of links, addresses, routes or rules."""
    watch = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    refuse_overrun_errors(watch)
    watch.bind((0, _GROUPS))
    return watch


def refuse_overrun_errors(netlink: socket.socket) -> None:
    """Has a netlink socket that overflows just lose messages, and count them.

    The error that it would report (ENOBUFS) comes with POLLERR, upon which libuv stops to watch a
    descriptor, and does not say so. What is there to be read says all that we need.
    """
    netlink.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)


def drain_route_watch(watch: socket.socket) -> None:
    """Reads what is there; a burst that overflowed the socket is just one more change."""
    with contextlib.suppress(BlockingIOError):
        while True:
            watch.recv(_RECEIVE_BYTES)
