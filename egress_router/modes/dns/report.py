"""What the forwarder tells about itself: metrics and the document of /status.

The configuration bounds the labels. Beyond SERIES_MAX lines the later ones share one label, so that
a list of ten thousand does not become a hundred thousand series.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from egress_router.modes.dns.names import Knowledge
from egress_router.service import metrics
from egress_router.service.nameservers import ResolverReport
from egress_router.service.series import OTHER, SERIES_MAX, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from egress_router.modes.dns.datagrams import DatagramPort
    from egress_router.modes.dns.names import Name
    from egress_router.modes.dns.port import Port
    from egress_router.modes.dns.serving import Serving
    from egress_router.service.daemon import Service
    from egress_router.service.histogram import Histogram

_PORT_SUMS = {"active", "forwarded", "failed", "up_bytes", "down_bytes"}


def provide_report(service: Service, serving: Serving) -> None:
    """Says how the mode's metrics and status are read."""
    report = _Report(serving)
    provide = service.metrics.provide
    provide(metrics.DNS_CONNECTIONS, report.connections)
    provide(metrics.DNS_ACTIVE, report.active)
    provide(metrics.DNS_BYTES, report.bytes)
    provide(metrics.DNS_PORT_OPEN, report.open)
    provide(metrics.DNS_NAME_STATE, report.states)
    provide(metrics.DNS_NAME_AGE, report.ages)
    provide(metrics.DNS_NAME_ADDRESSES, report.addresses)
    provide(metrics.DNS_PARTNER_UP, report.partners)
    provide(metrics.DIAL_SECONDS, report.dials)
    provide(metrics.DNS_CONNECTION_LIMIT, lambda: serving.admission.limit)
    service.provide_status(report.status, merge=merge_status)
    ResolverReport(service, serving.resolver)


def merge_status(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of several processes as those of one forwarder.

    States are the first one's: each process follows names and partners by itself, and all see the
    same sooner or later.
    """
    rows = {(row["protocol"], row["port"]): dict(row) for row in own["ports"]}
    for row in (row for one in others for row in one["ports"]):
        total = rows.get((row["protocol"], row["port"]), {})
        for name in _PORT_SUMS & total.keys() & row.keys():
            total[name] += row[name]
    every = (own, *others)
    return {
        **own,
        **{name: sum(one[name] for one in every) for name in ("connections", "connection_limit")},
        "ports": list(rows.values()),
    }


class _Report:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def connections(self) -> Series:
        return self._by_port(
            lambda port: {
                "forwarded": port.counts.forwarded,
                "failed": port.counts.failed,
                "refused": port.counts.refused,
            }
        )

    def active(self) -> Series:
        total: Series = defaultdict(float)
        for label, port in self._ports():
            total[(label,)] += port.counts.active
        return total

    def bytes(self) -> Series:
        """Those of open connections too: a session of a day would show as one leap at its end."""
        moved: dict[Port, tuple[int, int]] = {}
        for connection in self._serving.carried:
            up, down = moved.get(connection.port, (0, 0))
            more_up, more_down = connection.moved
            moved[connection.port] = (up + more_up, down + more_down)

        def read(port: Port) -> dict[str, int]:
            up, down = moved.get(port, (0, 0))
            return {"up": port.counts.bytes_up + up, "down": port.counts.bytes_down + down}

        return self._by_port(read)

    def open(self) -> Series:
        return {(label,): float(port.is_open) for label, port in self._ports() if label != OTHER}

    def states(self) -> Series:
        return {
            (name.text, state.value): float(name.state is state)
            for name in self._names()
            for state in Knowledge
        }

    def ages(self) -> Series:
        return {(name.text,): name.age_s for name in self._names() if name.age_s is not None}

    def addresses(self) -> Series:
        return {(name.text,): len(name.addresses) for name in self._names()}

    def partners(self) -> Series:
        """As many as SERIES_MAX; a sum over the others would say nothing."""
        every = islice(self._partners(), SERIES_MAX)
        return dict(every)

    def dials(self) -> dict[tuple[str, ...], Histogram]:
        dials = self._serving.dials
        return {("connected",): dials.connected, ("failed",): dials.failed}

    def status(self) -> dict[str, Any]:
        """The lists are as long as the configuration."""
        return {
            "connections": self._serving.admission.active,
            "connection_limit": self._serving.admission.limit,
            "data_path": self._serving.path_name,
            "ports": [
                *(_port_row(port) for port in self._serving.ports),
                *(_datagram_row(port) for port in self._serving.datagrams),
            ],
            "names": [_name_row(name) for name in self._serving.names.values()],
        }

    def _ports(self) -> Iterator[tuple[str, Port]]:
        for index, port in enumerate(self._serving.ports):
            yield (str(port.destination.port) if index < SERIES_MAX else OTHER), port

    def _partners(self) -> Iterator[tuple[tuple[str, str], float]]:
        for port in self._serving.ports:
            alive = set(port.partners.alive())
            for address in port.name.addresses:
                yield (str(port.destination.port), str(address)), float(address in alive)

    def _names(self) -> tuple[Name, ...]:
        named = (name for name in self._serving.names.values() if name.literal is None)
        return tuple(named)[:SERIES_MAX]

    def _by_port(self, read: Callable[[Port], dict[str, int]]) -> Series:
        total: Series = defaultdict(float)
        for label, port in self._ports():
            for kind, count in read(port).items():
                total[label, kind] += count
        return total


def _port_row(port: Port) -> dict[str, Any]:
    one = port.destination
    return {
        "port": one.port,
        "protocol": str(one.protocol),
        "target": f"{one.host}:{one.target_port}",
        "state": "open" if port.is_open else port.reason,
        "active": port.counts.active,
        "forwarded": port.counts.forwarded,
        "failed": port.counts.failed,
        "up_bytes": port.counts.bytes_up,
        "down_bytes": port.counts.bytes_down,
        "alive": len(port.partners.alive()),
    }


def _datagram_row(port: DatagramPort) -> dict[str, Any]:
    one = port.destination
    return {
        "port": one.port,
        "protocol": str(one.protocol),
        "target": f"{one.host}:{one.target_port}",
        "state": port.reason or "open",
    }


def _name_row(name: Name) -> dict[str, Any]:
    age_s = name.age_s
    return {
        "name": name.text,
        "state": name.state.value if not name.detail else f"{name.state.value}: {name.detail}",
        "age_s": None if age_s is None else round(age_s, 1),
        "addresses": [str(address) for address in name.addresses],
    }
