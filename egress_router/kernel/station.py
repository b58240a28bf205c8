"""One station on the outside link: asks who holds an address, announces ours, finds the gateway.

1. A probe asks three times over the listening time. Any answer, and anybody else's probe for the
   same address, is a conflict (RFC 5227 §2.1.1); but of two probers one goes on.
2. An announcement is sent twice per claim, by whoever claims; nothing is left running to do it.
3. Needs CAP_NET_RAW and a link that is up.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Self

from egress_router.errors import AddressConflictError, KernelError
from egress_router.kernel import packets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from egress_router.config.addresses import Address

PROBES = 3  # PROBE_NUM, RFC 5227 §1.1
# Between two rounds while a held address is waited for; at random, so that two routers which probe
# at the same moment, and so find each other, do not do so for ever (RFC 5227 §2.1.1).
RETRY_S = (0.4, 1.2)
CONTENDED_ROUNDS = 2
_FRAME_BYTES = 2048


class Station:
    """Raw sockets on one link; `link` by name, `mac` as its own address."""

    def __init__(self, link: str, mac: str) -> None:
        self._link = link
        self._mac = packets.parse_mac(mac)
        self._mac_text = mac
        self._sockets: list[socket.socket] = []
        try:
            for protocol in (packets.ETH_P_ARP, packets.ETH_P_IPV6):
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
                self._sockets.append(raw)
                raw.bind((link, protocol))
        except OSError as error:
            self.close()
            raise KernelError(
                f"open a packet socket on {link}",
                error.strerror or str(error),
                errno=error.errno,
                remedy="CAP_NET_RAW is needed",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the sockets."""
        for raw in self._sockets:
            raw.close()

    def filenos(self) -> tuple[int, ...]:
        """The descriptors that become readable when somebody speaks."""
        return tuple(raw.fileno() for raw in self._sockets)

    def claim(
        self,
        addresses: Iterable[Address],
        *,
        probe_s: float,
        timeout_s: float,
        waiting: Callable[[packets.Sighting], None],
    ) -> None:
        """Returns when nobody holds the addresses; AddressConflictError after `timeout_s`.

        `waiting` hears of the holder once for every round that finds one.
        """
        deadline = time.monotonic() + timeout_s
        while (holder := self.probe(addresses, listen_s=probe_s)) is not None:
            retry_s = random.uniform(*RETRY_S)  # noqa: S311 (spreads load, guards nothing)
            if time.monotonic() + retry_s >= deadline:
                raise AddressConflictError(
                    holder.address,
                    holder.mac,
                    f"waited {timeout_s:g} s on {self._link}; stop the other holder, or set "
                    "EGRESS_CONFLICT=takeover to claim it anyway",
                )
            waiting(holder)
            time.sleep(retry_s)

    def probe(self, addresses: Iterable[Address], *, listen_s: float) -> packets.Sighting | None:
        """Asks for the addresses; whoever shows one of them within `listen_s`, or None.

        Of two stations that probe at the same moment the one with the lower MAC goes on: if both
        gave way, both could give up. It asks for another round, lest the other has not heard it.
        """
        wanted = frozenset(addresses)
        for _ in range(CONTENDED_ROUNDS):
            contended = False
            started = time.monotonic()
            for turn in range(PROBES):
                for address in wanted:
                    self._ask(address, sender=None)
                for sighting in self._listen(started + listen_s * (turn + 1) / PROBES):
                    if sighting.address not in wanted:
                        continue
                    if not sighting.probing or sighting.mac < self._mac_text:
                        return sighting
                    contended = True
            if not contended:
                return None
        return None

    def announce(self, addresses: Iterable[Address]) -> None:
        """Tells the link once that the addresses are here (ARP announcement, unsolicited NA)."""
        for address in addresses:
            if isinstance(address, IPv4Address):
                self._send_arp(packets.arp_request(self._mac, address, address))
            else:
                self._send_ipv6(*packets.neighbour_advertisement(self._mac, address))

    def find(self, gateway: Address, source: Address, *, listen_s: float) -> str | None:
        """The MAC that answers for the gateway within `listen_s`, or None."""
        started = time.monotonic()
        for turn in range(PROBES):
            self._ask(gateway, sender=source)
            for sighting in self._listen(started + listen_s * (turn + 1) / PROBES):
                if sighting.address == gateway and not sighting.probing:
                    return sighting.mac
        return None

    def read(self) -> tuple[packets.Sighting, ...]:
        """What others have shown since the last call, without waiting."""
        return tuple(self._drain())

    def _listen(self, until: float) -> Iterable[packets.Sighting]:
        while (wait_s := until - time.monotonic()) > 0:
            select.select(self._sockets, [], [], wait_s)
            yield from self._drain()

    def _drain(self) -> Iterable[packets.Sighting]:
        arp, ipv6 = self._sockets
        for raw in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, where = raw.recvfrom(_FRAME_BYTES)
                    sender = where[4]
                    if where[2] == socket.PACKET_OUTGOING or sender == self._mac:
                        continue
                    if raw is arp:
                        yield from self._foreign(packets.parse_arp(packet))
                    elif raw is ipv6:
                        yield from self._foreign(packets.parse_neighbour(packet, sender))

    def _foreign(self, sightings: Iterable[packets.Sighting]) -> Iterable[packets.Sighting]:
        return (sighting for sighting in sightings if sighting.mac != self._mac_text)

    def _ask(self, address: Address, *, sender: Address | None) -> None:
        if isinstance(address, IPv4Address):
            own = sender if isinstance(sender, IPv4Address) else None
            self._send_arp(packets.arp_request(self._mac, own, address))
        else:
            source = sender if isinstance(sender, IPv6Address) else None
            self._send_ipv6(*packets.neighbour_solicitation(self._mac, source, address))

    def _send_arp(self, packet: bytes) -> None:
        self._send(self._sockets[0], packets.ETH_P_ARP, packets.BROADCAST, packet)

    def _send_ipv6(self, destination: bytes, packet: bytes) -> None:
        self._send(self._sockets[1], packets.ETH_P_IPV6, destination, packet)

    def _send(self, raw: socket.socket, protocol: int, destination: bytes, packet: bytes) -> None:
        try:
            raw.sendto(packet, (self._link, protocol, 0, 0, destination))
        except OSError as error:
            raise KernelError(
                f"speak on {self._link}", error.strerror or str(error), errno=error.errno
            ) from error
