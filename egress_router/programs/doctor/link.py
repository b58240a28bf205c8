"""Probes of the egress link: who else has the address, whether the gateway answers, packet sizes.

1. With CAP_NET_RAW gateway and conflict are asked by ARP and ND, which leaves no doubt.
2. Without, the kernel asks for the gateway because we connect to a port of it that nobody serves:
   whatever comes back proves that it is there, and else its neighbour table tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from egress_router.diagnosis.facts import GatewayProbe, Holder, SizeProbe, Untested
from egress_router.diagnosis.inside import NEEDS_RAW
from egress_router.kernel.netlink import Netlink
from egress_router.kernel.station import Station
from egress_router.net.egress import Egress, bind_to
from egress_router.net.endpoint import family_of, socket_address
from egress_router.plan.state import Neighbour

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.diagnosis.facts import Place

LISTEN_S = 1.0  # of one ARP round; who is there answers in milliseconds
# The kernel asks a station that it knew for 5 s by the way, then three times, a second each.
GATEWAY_S = 9.0
POLL_S = 0.05
PING_S = 1.0
PING_TRIES = 3
_UNSERVED_PORT = 9  # discard, RFC 863
_KNOWN = {"reachable", "permanent"}
_PROBE = 3  # IP_PMTUDISC_PROBE: whole packets, whatever the kernel believes of the path
_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # IP(V6)_MTU_DISCOVER
_ECHO = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}
_HEADERS = {4: 28, 6: 48}  # of an echo request: IP and ICMP
_ECHO_HEADER = struct.Struct("!BBHHH")


def probe_holders(place: Place, mac: str | None, *, raw: bool) -> tuple[Holder, ...] | Untested:
    """Who else answers for the sources."""
    if not raw:
        return Untested(why=NEEDS_RAW)
    if mac is None or not place.sources:
        return Untested(why=f"there is no address on {place.link} to ask for")
    with Station(place.link, mac) as station:
        seen = station.probe(place.sources, listen_s=LISTEN_S)
    return () if seen is None else (Holder(address=seen.address, mac=seen.mac),)


def probe_gateway(place: Place, gateway: Address, mac: str | None, *, raw: bool) -> GatewayProbe:
    """Whether a gateway answers, by the strongest means there is."""
    source = place.source(gateway.version)
    how = None
    with Netlink() as netlink:
        if raw and mac is not None and source is not None:
            with Station(place.link, mac) as station:
                answered = station.find(gateway, source, listen_s=LISTEN_S)
            if answered is not None:
                one = Neighbour(address=gateway, mac=answered, state="reachable")
                return _gateway(netlink, place, one, "by ARP" if gateway.version == 4 else "by ND")
        else:
            how = _await_gateway(netlink, place, gateway)
        known = {one.address: one for one in netlink.observe_neighbours(place.link)}
        one = known.get(gateway) or Neighbour(address=gateway, mac=None, state="unknown")
        return _gateway(netlink, place, one, how)


def _gateway(netlink: Netlink, place: Place, one: Neighbour, how: str | None) -> GatewayProbe:
    others = [
        other
        for other in netlink.observe_neighbours(place.link)
        if other.address != one.address and other.state in _KNOWN
    ]
    counted = netlink.observe_counted_link(place.link)
    heard = counted[1].get("rx_packets", 0) if counted else 0
    return GatewayProbe(neighbour=one, how=how, heard=heard, others=len(others))


def _await_gateway(netlink: Netlink, place: Place, gateway: Address) -> str | None:
    """Connects to an unserved port until something shows that the gateway is there."""
    deadline = time.monotonic() + GATEWAY_S
    with socket.socket(family_of(gateway), socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        bind_to(sock, egress_of(place), gateway)
        outcome = sock.connect_ex(socket_address(gateway, _UNSERVED_PORT))
        while time.monotonic() < deadline:
            if outcome in {0, errno.ECONNREFUSED, errno.EACCES}:
                return "it refused a connection" if outcome else "it took a connection"
            if outcome not in {errno.EINPROGRESS, errno.EALREADY}:
                break
            known = {one.address: one for one in netlink.observe_neighbours(place.link)}
            if gateway in known and known[gateway].state in _KNOWN:
                return "the kernel's neighbour table"
            time.sleep(POLL_S)
            outcome = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or sock.connect_ex(
                socket_address(gateway, _UNSERVED_PORT)
            )
            outcome = 0 if outcome == errno.EISCONN else outcome
    return None


def probe_size(place: Place, gateway: Address, mtu: int, *, raw: bool) -> SizeProbe | Untested:
    """Pings the gateway with a small packet, then with one as large as the link allows."""
    try:
        sock = _open_ping(place, gateway, raw=raw)
    except PermissionError:
        return Untested(
            why="needs CAP_NET_RAW, or the pod sysctl net.ipv4.ping_group_range=0 2147483647"
        )
    with sock:
        if not any(_ping(sock, gateway, 64, number) for number in range(PING_TRIES)):
            return Untested(why=f"{gateway} does not answer to ping, which many do not")
        passed = any(_ping(sock, gateway, mtu, 100 + number) for number in range(PING_TRIES))
    return SizeProbe(gateway=gateway, size_bytes=mtu, passed=passed)


def _open_ping(place: Place, gateway: Address, *, raw: bool) -> socket.socket:
    protocol = _ECHO[gateway.version][0]
    try:
        sock = socket.socket(family_of(gateway), socket.SOCK_DGRAM, protocol)
    except PermissionError:
        if not raw:
            raise
        sock = socket.socket(family_of(gateway), socket.SOCK_RAW, protocol)
    try:
        egress = egress_of(place)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, egress.device or b"")
        # Without IP_BIND_ADDRESS_NO_PORT, which sockets without ports do not know.
        sock.bind(egress.bound(gateway) or ("", 0))
        sock.setsockopt(*_DISCOVER[gateway.version], _PROBE)
    except OSError:
        sock.close()
        raise
    return sock


def _ping(sock: socket.socket, gateway: Address, size_bytes: int, number: int) -> bool:
    """Whether an echo request of that size, headers and all, was answered."""
    version = gateway.version
    _, request, reply = _ECHO[version]
    body = bytes(size_bytes - _HEADERS[version])
    head = _ECHO_HEADER.pack(request, 0, 0, os.getpid() & 0xFFFF, number)
    check = checksum(head + body)
    packet = _ECHO_HEADER.pack(request, 0, check, os.getpid() & 0xFFFF, number) + body
    deadline = time.monotonic() + PING_S / PING_TRIES
    with contextlib.suppress(BlockingIOError, TimeoutError):
        sock.settimeout(PING_S / PING_TRIES)
        try:
            sock.sendto(packet, socket_address(gateway, 0))
        except OSError:
            return False  # EMSGSIZE, or the neighbour does not answer
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                answer = sock.recv(size_bytes + 64)
            except TimeoutError:
                return False
            except OSError:
                continue
            if version == 4 and sock.type == socket.SOCK_RAW:
                answer = answer[(answer[0] & 0x0F) * 4 :]  # a raw IPv4 socket shows the IP header
            if len(answer) >= _ECHO_HEADER.size:
                kind, _, _, _, told = _ECHO_HEADER.unpack_from(answer)
                if (kind, told) == (reply, number):
                    return True
    return False


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def egress_of(place: Place) -> Egress:
    """The source addresses and the link, as sockets are tied to them."""
    return Egress(
        source4=place.source(4),  # type: ignore[arg-type]  # of its own version
        source6=place.source(6),  # type: ignore[arg-type]  # as above
        link=place.link,
    )
