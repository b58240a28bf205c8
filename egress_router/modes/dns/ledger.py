"""What became of each connection: one log line at its end, and the counts for metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress_router.net.endpoint import render_endpoint
from egress_router.service import events
from egress_router.service.histogram import Histogram
from egress_router.service.log_lines import seconds_since
from egress_router.service.logs import is_logged, log_fields, log_late

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress_router.config.dns_destination import DnsDestination
    from egress_router.net.endpoint import IPAddress
    from egress_router.net.relay import RelayEnd
    from egress_router.net.upstreams import Upstream
    from egress_router.service.connection_log import ConnectionLog
    from egress_router.service.events import Event

_monotonic: Final = time.monotonic
_CONNECTED: Final = events.DNS_CONNECTED
_FORWARDED: Final = events.DNS_FORWARDED


@dataclass(slots=True, kw_only=True)
class Dials:
    """How long clients waited for a partner, or for the end of all tries."""

    connected: Histogram = field(default_factory=Histogram)
    failed: Histogram = field(default_factory=Histogram)


@dataclass(slots=True, kw_only=True)
class PortCounts:
    """The counts of one port; all but `active` only ever grow. `dials`, `log`: of all ports.

    `id_prefix` makes the ids of its lines the daemon's own.
    """

    dials: Dials
    log: ConnectionLog
    id_prefix: str = ""
    active: int = 0
    forwarded: int = 0
    failed: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Labels:
    """What all lines about one destination have in common."""

    __slots__ = ("port", "rule", "target")

    def __init__(self, destination: DnsDestination) -> None:
        self.port = destination.port
        self.target = f"{destination.host}:{destination.target_port}"
        self.rule = destination.line


class Record:
    """One connection, from its acceptance to its line."""

    __slots__ = ("_counts", "_labels", "_peer", "_started", "_upstream", "number")

    def __init__(self, labels: Labels, counts: PortCounts, peer: tuple[str, int]) -> None:
        self.number = counts.log.next_number()
        self._labels = labels
        self._counts = counts
        self._peer = peer
        self._started = _monotonic()
        self._upstream: Upstream | None = None
        counts.active += 1

    def connected(self, upstream: Upstream) -> None:
        """There is a connection to a partner."""
        self._upstream = upstream
        self._counts.forwarded += 1
        self._counts.dials.connected.note(_monotonic() - self._started)
        if is_logged(_CONNECTED):
            fields = self._begin_fields()
            fields["seconds"] = seconds_since(self._started)
            log_fields(_CONNECTED, fields)

    def leads_to(self, port: int, addresses: Iterable[IPAddress]) -> bool:
        """Whether it is connected to one of these."""
        upstream = self._upstream
        return upstream is not None and upstream.port == port and upstream.address in addresses

    def ended(self, end: RelayEnd, revoked: str = "") -> None:
        """The connection is over; `revoked`: why it was ended from here."""
        counts = self._counts
        counts.active -= 1
        counts.bytes_up += end.bytes_up
        counts.bytes_down += end.bytes_down
        if counts.log.takes():
            self._write(_FORWARDED, revoked or end.reason, end)

    def failed(self, reason: str) -> None:
        """No connection to a partner came about."""
        self._counts.active -= 1
        self._counts.failed += 1
        self._counts.dials.failed.note(_monotonic() - self._started)
        self._write(events.DNS_FAILED, reason)

    def refused(self, reason: str) -> None:
        """It was not let in."""
        self._counts.active -= 1
        self._counts.refused += 1
        self._write(events.DNS_REFUSED, reason)

    def _write(self, event: Event, reason: str, end: RelayEnd | None = None) -> None:
        log_late(event, self._end_fields, reason, end, seconds_since(self._started))

    def _end_fields(self, reason: str, end: RelayEnd | None, seconds: float) -> dict[str, object]:
        fields = self._begin_fields()
        fields["reason"] = str(reason)  # it may be a member of an enumeration
        if end is not None:
            fields["bytes_up"] = end.bytes_up
            fields["bytes_down"] = end.bytes_down
        fields["seconds"] = seconds
        return fields

    def _begin_fields(self) -> dict[str, object]:
        labels = self._labels
        return {
            "id": self._counts.id_prefix + format(self.number, "x"),
            "client": render_endpoint(*self._peer),
            "port": labels.port,
            "target": labels.target,
            "address": self._upstream.text if self._upstream else None,
            "rule": labels.rule,
        }
