"""One forwarded TCP port: its listening sockets and its connections.

It listens while something is behind it: the egress link carries, the name has an address, and not
every address has failed. Otherwise its sockets are closed, and the kernel refuses.
"""

from __future__ import annotations

import asyncio  # noqa: TC003 (of a field)
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from egress_router.errors import KernelError
from egress_router.modes.dns.ledger import Dials, Labels, PortCounts, Record
from egress_router.modes.dns.outside import Outside  # noqa: TC001 (of a field)
from egress_router.modes.dns.partners import Partners
from egress_router.modes.dns.sockets import reset
from egress_router.net.binding import Binding, Bound
from egress_router.net.dial_errors import DialError
from egress_router.net.listen import Admission, Listener
from egress_router.net.relay import Carrier  # noqa: TC001 (of a field)
from egress_router.plan.forwards import Forward
from egress_router.service import events
from egress_router.service.connection_log import ConnectionLog  # noqa: TC001 (of a field)
from egress_router.service.logs import log_event

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from egress_router.config.dns import DnsTimes
    from egress_router.config.dns_destination import DnsDestination
    from egress_router.modes.dns.names import Name
    from egress_router.net.dial import Dial
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.relay import Relay, RelayEnd

LOOPBACK: Final = "lo"
EVERYWHERE: Final = (IPv4Address(0), IPv6Address(0))  # of one link: each socket is bound to it
COMING: Final = "its sockets are on their way"
DRAINING: Final = "the daemon drains"
REMOVED: Final = "its line was removed"


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all ports of a process have in common. `trouble`: why nothing can leave, or empty.

    `id_prefix`: of the ids in its log. `open_port` gives the listening sockets of a port, or calls
    back when it can (`service.listening`).
    """

    outside: Outside
    carrier: Carrier
    admission: Admission
    log: ConnectionLog
    loop: asyncio.AbstractEventLoop
    open_port: Callable[[int, Callable[[], object]], Bound | None]
    id_prefix: str = ""
    cluster: str = ""
    trouble: str = "the network was not looked at yet"
    draining: bool = False
    dials: Dials = field(default_factory=Dials)
    dialling: set[Connection] = field(default_factory=set)
    carried: set[Connection] = field(default_factory=set)


class Port:
    """One line of the configuration."""

    def __init__(
        self,
        destination: DnsDestination,
        name: Name,
        shared: Shared,
        times: DnsTimes,
        *,
        probed: Callable[[], None],
    ) -> None:
        """`probed` is called when partners have been found dead or alive."""
        self.destination = destination
        self.name = name
        self.counts = PortCounts(dials=shared.dials, log=shared.log, id_prefix=shared.id_prefix)
        self.reason = shared.trouble
        self.fault = ""  # why it could not listen when it was to
        self._labels = Labels(destination)
        self._shared = shared
        self._times = times
        self.partners = self._make_partners()
        self._removed = False
        self._listener: Listener | None = None
        self._tell = probed

    @property
    def is_open(self) -> bool:
        """Whether it accepts connections."""
        return self._listener is not None

    def lead_to(self, destination: DnsDestination, name: Name) -> None:
        """Leads elsewhere from now on; its sockets stay open while something is behind it."""
        self.partners.close()
        self.destination, self.name = destination, name
        self._labels = Labels(destination)
        self.partners = self._make_partners()

    def remove(self) -> None:
        """Accepts no more, for good: its line is gone."""
        self._removed = True
        self.close()
        log_event(
            events.DNS_PORT_CLOSED,
            port=self._labels.port,
            target=self._labels.target,
            reason=REMOVED,
        )

    def settle(self) -> None:
        """Opens or closes the port, as things are now."""
        if self._removed:
            return  # word of a partner that came late
        reason = self._nothing_behind()
        if not reason and self._listener is None:
            reason = self._open()
        elif reason and self._listener is not None:
            self._close(reason)
        self.reason = reason
        if not self._shared.draining:
            self.partners.watch()

    def forward(self) -> Forward | None:
        """Where the kernel may send connections by itself, if anywhere.

        IPv4 is preferred: while an IPv4 address lives, IPv6 clients go through this daemon.
        """
        alive = self.partners.alive()
        if self._shared.draining or self._shared.trouble or not alive:
            return None
        first = alive[0].version
        return Forward(
            protocol=self.destination.protocol,
            port=self.destination.port,
            addresses=tuple(one for one in alive if one.version == first),
            target_port=self.destination.target_port,
        )

    def close(self) -> None:
        """Accepts no more; connections that are open go on."""
        self.partners.close()
        self._stop_listening()

    def _make_partners(self) -> Partners:
        return Partners(
            self.name,
            self.destination.target_port,
            self._shared,
            self._times,
            changed=self.probed,
        )

    def _nothing_behind(self) -> str:
        shared, partners = self._shared, self.partners
        if shared.draining:
            return DRAINING
        if shared.trouble:
            return shared.trouble
        if not self.name.addresses:
            return f"{self.name.text}: {self.name.detail}"
        if partners.all_failed:
            listed = ", ".join(map(str, self.name.addresses))
            return f"no partner answers at {listed} port {partners.port}"
        return ""

    def probed(self) -> None:
        """Partners have been found dead or alive."""
        self.settle()
        self._tell()

    def _open(self) -> str:
        """Listens; why it cannot, if it cannot."""
        try:
            bound = self._shared.open_port(self.destination.port, self.settle)
        except KernelError as error:
            self.fault = str(error)
            return self.fault
        self.fault = ""
        if bound is None:
            return COMING
        self._listener = Listener(
            bound,
            self._shared.admission,
            on_connection=self._accept,
            on_excess=self._turn_away,
            loop=self._shared.loop,
        )
        self._listener.start()
        log_event(events.DNS_PORT_OPENED, port=self.destination.port, target=self._labels.target)
        return ""

    def _close(self, reason: str) -> None:
        self._stop_listening()
        log_event(
            events.DNS_PORT_CLOSED,
            port=self._labels.port,
            target=self._labels.target,
            reason=reason,
        )

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _accept(self, sock: socket.SocketType, peer: tuple[str, int]) -> None:
        Connection(self, sock, Record(self._labels, self.counts, peer), self._shared)

    def _turn_away(self, sock: socket.SocketType, peer: tuple[str, int]) -> None:
        reset(sock)
        limit = self._shared.admission.limit
        Record(self._labels, self.counts, peer).refused(f"{limit} connections are open")


class Connection:
    """One client, from its acceptance until a relay has it; no task, for there is little to do."""

    __slots__ = ("_client", "_dial", "_record", "_relay", "_revoked", "_shared", "port")

    def __init__(
        self, port: Port, client: socket.SocketType, record: Record, shared: Shared
    ) -> None:
        self.port = port
        self._client = client
        self._record = record
        self._shared = shared
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._revoked = ""
        shared.dialling.add(self)
        try:
            self._dial = port.partners.connect(self._connected)
        except Exception:
            if self in shared.dialling:
                self._fail("broken")
            raise  # the loop's handler logs it; no other connection is concerned

    def cut(self, reason: str = "cut") -> None:
        """Ends it while it is not connected yet."""
        if self._dial is not None:
            self._dial.cancel()
        self._fail(reason)

    def dial_again(self) -> None:
        """Its port leads elsewhere now: connects to there instead."""
        if self._dial is not None:
            self._dial.cancel()
        self._dial = self.port.partners.connect(self._connected)

    def leads_to(self, target_port: int, addresses: Iterable[IPAddress]) -> bool:
        """Whether it is connected to one of these."""
        return self._record.leads_to(target_port, addresses)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes by the client and by the partner so far."""
        relay = self._relay
        return (0, 0) if relay is None else (relay.bytes_up, relay.bytes_down)

    def revoke(self, reason: str) -> None:
        """Ends it, for the list does not lead there any more."""
        self._revoked = reason
        if self._relay is not None:
            self._relay.cut()

    def _connected(self, dial: Dial, result: socket.SocketType | DialError) -> None:
        if isinstance(result, DialError):
            self._fail(self._shared.outside.trouble() or str(result))
            # Not here: it may close the very listener that is accepting us.
            self._shared.loop.call_soon(self.port.probed)
            return
        self._shared.dialling.discard(self)
        assert dial.winner is not None  # noqa: S101 - it has won
        self._record.connected(dial.winner)
        self._shared.carried.add(self)
        self._relay = self._shared.carrier.carry(
            self._client, result, self._ended, upstream_read_out=dial.read_out, ack_held=True
        )

    def _fail(self, reason: str) -> None:
        self._shared.dialling.discard(self)
        reset(self._client)
        self._record.failed(reason)
        self._shared.admission.release()

    def _ended(self, end: RelayEnd) -> None:
        self._relay = self._dial = None  # or the three of us were a circle, left for the collector
        self._shared.carried.discard(self)
        self._record.ended(end, self._revoked)
        self._shared.admission.release()


def bind_port(port: int, links: tuple[str, ...]) -> Binding:
    """Where a port listens: for what arrives by these links, in both families."""
    return Binding(addresses=EVERYWHERE, port=port, links=links)
