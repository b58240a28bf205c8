"""One station on the outside link: asks who holds an address, announces ours, finds the gateway.

1. A probe asks three times over the listening time. Any answer, and anybody else's probe for the
   same address, is a conflict (RFC 5227 §2.1.1); but of two probers one goes on.
2. An announcement is sent twice per claim, by whoever claims; nothing is left running to do it.
3. Whoever shows an address after it was claimed challenges it: a host that heard no probe, and
   defends what it has when it hears the announcement (RFC 5227 §2.4).
4. Needs CAP_NET_RAW and a link that is up. One socket for each family asked for, and one station
   for all that a program has to say: the kernel takes 10 ms to close a packet socket.
"""

from __future__ import annotations

import random
import select
import socket
import time
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from typing import TYPE_CHECKING, Self

from egress_router.errors import AddressConflictError, KernelError
from egress_router.kernel import packets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType

    from egress_router.config.addresses import Address

PROBES = 3  # PROBE_NUM, RFC 5227 §1.1
# Between two rounds while a held address is waited for; at random, so that two routers which probe
# at the same moment, and so find each other, do not do so for ever (RFC 5227 §2.1.1).
RETRY_S = (0.4, 1.2)
CONTENDED_ROUNDS = 2
_FRAME_BYTES = 2048
_PROTOCOLS = {4: packets.ETH_P_ARP, 6: packets.ETH_P_IPV6}


class Station:
    """Raw sockets on one link; `link` by name, `mac` as its own address, `versions` of IP."""

    def __init__(self, link: str, mac: str, versions: Iterable[int] = (4, 6)) -> None:
        self._link = link
        self._sockets: dict[int, socket.socket] = {}
        self._claimed: frozenset[Address] = frozenset()
        self._challengers: dict[tuple[str, bool], packets.Sighting] = {}  # by MAC and `answering`
        self.speak_as(mac)
        self.join(versions)

    def speak_as(self, mac: str) -> None:
        """What the link's address is from now on, as text."""
        self._mac = packets.parse_mac(mac)
        self._mac_text = mac

    def join(self, versions: Iterable[int]) -> None:
        """Listens in these families too; raises KernelError, with all closed."""
        try:
            for version in versions:
                if version in self._sockets:
                    continue
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
                self._sockets[version] = raw
                raw.bind((self._link, _PROTOCOLS[version]))
        except OSError as error:
            self.close()
            raise KernelError(
                f"open a packet socket on {self._link}",
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
        for raw in self._sockets.values():
            raw.close()
        self._sockets.clear()

    def filenos(self) -> tuple[int, ...]:
        """The descriptors that become readable when somebody speaks."""
        return tuple(raw.fileno() for raw in self._sockets.values())

    def claim(
        self,
        addresses: Iterable[Address],
        *,
        probe_s: float,
        timeout_s: float,
        waiting: Callable[[packets.Sighting], None],
    ) -> None:
        """Returns when nobody holds the addresses; AddressConflictError after `timeout_s`.

        `waiting` hears of the holder once for every round that finds one. From then on whoever
        shows one of the addresses is a `challenger`.
        """
        wanted = frozenset(addresses)
        deadline = time.monotonic() + timeout_s
        while (holder := self.probe(wanted, listen_s=probe_s)) is not None:
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
        self._claimed |= wanted

    def challenger(
        self, *, until: float = 0.0, proxies: Collection[str | None] = ()
    ) -> packets.Sighting | None:
        """Who has shown an address since it was claimed here, or does so until then (monotonic).

        What was heard while the station did something else counts. None at once if nothing was
        claimed here. `proxies`: the MACs of gateways, whose answers to an announcement say nothing.
        """
        if not self._claimed:
            return None
        for _ in chain((None,), self._listen(until)):  # asked before anybody speaks
            if found := self._challenging(proxies):
                return found
        return None

    def _challenging(self, proxies: Collection[str | None]) -> packets.Sighting | None:
        sightings = self._challengers.values()
        return next((s for s in sightings if not (s.answering and s.mac in proxies)), None)

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
        """What others show until then, and what is there already."""
        while True:
            yield from self._drain()
            wait_s = until - time.monotonic()
            if wait_s <= 0:
                return
            select.select(self._sockets.values(), [], [], wait_s)

    def _drain(self) -> Iterable[packets.Sighting]:
        for version, raw in self._sockets.items():
            while (heard := self._receive(raw)) is not None:
                packet, sender = heard
                for sighting in _parse(version, packet, sender):
                    if sighting.mac == self._mac_text:
                        continue
                    if sighting.address in self._claimed and not sighting.probing:
                        self._challengers.setdefault((sighting.mac, sighting.answering), sighting)
                    yield sighting

    def _receive(self, raw: socket.socket) -> tuple[bytes, bytes] | None:
        """The next packet of another station, and its MAC; None if there is none."""
        while True:
            try:
                packet, where = raw.recvfrom(_FRAME_BYTES)
            except BlockingIOError:
                return None
            except OSError as error:
                raise self._failed("listen on", error) from error
            if where[2] != socket.PACKET_OUTGOING and where[4] != self._mac:
                return packet, where[4]

    def _ask(self, address: Address, *, sender: Address | None) -> None:
        if isinstance(address, IPv4Address):
            own = sender if isinstance(sender, IPv4Address) else None
            self._send_arp(packets.arp_request(self._mac, own, address))
        else:
            source = sender if isinstance(sender, IPv6Address) else None
            self._send_ipv6(*packets.neighbour_solicitation(self._mac, source, address))

    def _send_arp(self, packet: bytes) -> None:
        self._send(4, packets.BROADCAST, packet)

    def _send_ipv6(self, destination: bytes, packet: bytes) -> None:
        self._send(6, destination, packet)

    def _send(self, version: int, destination: bytes, packet: bytes) -> None:
        where = (self._link, _PROTOCOLS[version], 0, 0, destination)
        try:
            self._sockets[version].sendto(packet, where)
        except OSError as error:
            raise self._failed("speak on", error) from error

    def _failed(self, what: str, error: OSError) -> KernelError:
        return KernelError(f"{what} {self._link}", error.strerror or str(error), errno=error.errno)


def _parse(version: int, packet: bytes, sender: bytes) -> tuple[packets.Sighting, ...]:
    return packets.parse_arp(packet) if version == 4 else packets.parse_neighbour(packet, sender)
