"""What a daemon's mode and this room know of each other.

`Mode` is all that this room asks of a mode; `Service` is all that a mode gets from it. A mode that
several processes may serve at once is `Shareable` too: then the daemon may be more than one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from egress_router import __version__
from egress_router.service import metrics, process
from egress_router.service.admin import AdminEndpoint, open_port
from egress_router.service.build import COMPILED
from egress_router.service.collector import spare_collector
from egress_router.service.connection_log import ConnectionLog
from egress_router.service.events import DAEMON_STARTED
from egress_router.service.health import Readiness
from egress_router.service.listening import OpenedSockets
from egress_router.service.logs import dropped_lines, log_event
from egress_router.service.metric_registry import Metrics
from egress_router.service.place import ALONE, Place
from egress_router.service.reload import Reloader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from egress_router.config.daemon import DaemonConfig
    from egress_router.config.settings import Environment
    from egress_router.net.listen import Loads
    from egress_router.service.crew import Crew
    from egress_router.service.lifecycle import Lifecycle
    from egress_router.service.listening import Listening

    Facts: TypeAlias = Mapping[str, Any]
    Merge: TypeAlias = Callable[[Facts, Sequence[Facts]], Facts]

Config = TypeVar("Config")


class Mode(Protocol[Config]):
    """One daemon's own part. `name` is its command: `redirect`, `http`, `dns`."""

    name: str

    def parse(self, environment: Environment, /) -> Config:
        """The mode's configuration; pure, raises ConfigurationError with every problem."""

    async def serve(self, config: Config, service: Service, /) -> None:
        """Serves until `service.stopping` is set, drains what is open, and returns.

        Calls `service.started()` once it serves. Cancelled when draining takes too long.
        """


@runtime_checkable
class Shareable(Protocol):
    """A mode that several processes may serve, from the same listening sockets."""

    def may_share(self, config: Any, /) -> bool:
        """Whether this configuration can be served so."""

    def preload(self) -> None:
        """Imports what serving takes, so that the processes have it in common."""


class Service:
    """What a mode gets: settings, readiness, metrics, tasks, reloads, and word of its end."""

    def __init__(
        self,
        mode: str,
        config: DaemonConfig,
        lifecycle: Lifecycle,
        environment: Environment,
        *,
        place: Place = ALONE,
    ) -> None:
        self.mode = mode
        self.place = place
        self.config = config
        self.lifecycle = lifecycle
        self.tasks = lifecycle.tasks
        age_s = process.observe_age_s()
        self.readiness = Readiness(mode, age_s=age_s)
        self.metrics = Metrics()
        self.listening: Listening = OpenedSockets()
        self.loads: Loads | None = None  # of all processes, if they are several
        self.connection_log = ConnectionLog(config.record_every)
        self.reload = Reloader(mode, environment, lifecycle, poll_s=config.reload_s, place=place)
        self._crew: Crew | None = None
        self._started_at = time.time() - age_s
        self._on_started: list[Callable[[], None]] = []
        self._status: list[tuple[Callable[[], Facts], Merge | None]] = []
        self._readings: list[Callable[[], Awaitable[None]]] = []
        self._warnings: list[Callable[[], Iterable[str]]] = [lambda: config.warnings]
        self.admin = AdminEndpoint(
            readiness=self.readiness,
            status=self.status_document,
            metrics=self.metrics,
            read=self.take_readings,
        )
        lifecycle.on_drain(self.readiness.drain)
        self._provide_metrics()

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the drain begins."""
        return self.lifecycle.stopping

    def started(self) -> None:
        """Says that the mode serves: from now on a stop is a drain."""
        self.lifecycle.started()
        for callback in self._on_started:
            callback()
        self.admin.wake()
        spare_collector()
        log_event(
            DAEMON_STARTED,
            mode=self.mode,
            version=__version__,
            compiled=COMPILED,
            pid=os.getpid(),
            start_s=round(process.observe_age_s(), 3),
        )

    def on_started(self, callback: Callable[[], None]) -> None:
        """Calls back when the mode serves."""
        self._on_started.append(callback)

    def provide_status(self, source: Callable[[], Facts], *, merge: Merge | None = None) -> None:
        """Adds facts to /status: scalars, mappings, lists; must not block, and may be called often.

        `source`, `gateway` and `link` are shown first, mappings and lists of mappings as sections.
        `merge` makes one of the facts of this process and those of the daemon's others; without it
        the first process' are told.
        """
        self._status.append((source, merge))

    def status_parts(self) -> dict[str, Facts]:
        """What another process of the daemon merges with its own facts, as JSON can carry it."""
        return {str(n): source() for n, (source, merge) in enumerate(self._status) if merge}

    def lead(self, crew: Crew) -> None:
        """From now on the daemon is this process and these workers."""
        self._crew = crew
        self.on_started(crew.begin)
        self.reload.spread = crew.reload
        self.metrics.join(crew.values)
        self.provide_reading(crew.gather)
        self.provide_warnings(crew.warnings)

    def provide_reading(self, take: Callable[[], Awaitable[None]]) -> None:
        """Has something read before /status or /metrics is answered: what is asked for on demand.

        It must bound the time it takes, and how often it does anything, by itself.
        """
        self._readings.append(take)

    async def take_readings(self) -> None:
        """Brings up to date what is only read on demand."""
        for take in self._readings:
            await take()

    def provide_warnings(self, source: Callable[[], Iterable[str]]) -> None:
        """Adds what is wrong without making the daemon unready: a line each, in /status; as above.

        A warning names what it is about: `gateway 192.168.12.1 does not answer on macvlan0`.
        """
        self._warnings.append(source)

    def open_admin_port(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """Opens the admin port, if one is configured, on these cluster-side addresses."""
        if self.config.admin_port is not None and self.place.first:
            self.admin.add([open_port(address, self.config.admin_port) for address in addresses])

    def status_document(self) -> dict[str, Any]:
        """The document of /status: what all daemons tell, then what the mode tells."""
        snapshot = self.readiness.snapshot()
        facts = self._facts()  # first: some warnings are about what several processes know
        return {
            "mode": self.mode,
            "version": __version__,
            "ready": snapshot.ready,
            "reasons": list(snapshot.reasons),
            "for_s": round(snapshot.for_s, 1),
            "warnings": [warning for source in self._warnings for warning in source()],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started_at)),
            **facts,
            "reload": self.reload.report.status(),
            "conditions": {c.name: c.reason or "ok" for c in snapshot.conditions},
            **({"workers": self._crew.rows()} if self._crew else {}),
            "process": {
                "pid": os.getpid(),
                **self.process_facts(),
                "log_lines_dropped": dropped_lines(),
            },
        }

    def process_facts(self) -> dict[str, float]:
        """What this process takes."""
        return {
            "memory_bytes": int(self._memory_bytes()),
            "cpu_s": round(process.observe_cpu_s(), 2),
            "open_descriptors": int(process.observe_descriptors()),
            "loop_lag_s": round(self.lifecycle.lag.largest_s(), 4),
        }

    def _memory_bytes(self) -> float:
        if self.place.alone:
            return process.observe_memory_bytes()
        return process.observe_shared_memory_bytes()

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for number, (source, merge) in enumerate(self._status):
            own = source()
            if merge is not None and self._crew is not None:
                own = merge(own, self._crew.parts(str(number)))
            facts |= own
        return facts

    def _provide_metrics(self) -> None:
        life, provide = self.lifecycle, self.metrics.provide
        provide(metrics.BUILD_INFO, lambda: {(__version__, self.mode): 1})
        provide(metrics.READY, lambda: float(self.readiness.ready))
        provide(
            metrics.CONDITION,
            lambda: {
                (c.name,): float(c.reason is None) for c in self.readiness.snapshot().conditions
            },
        )
        self.reload.report.provide(self.metrics)
        provide(metrics.LOOP_LAG, life.lag.largest_s)
        provide(metrics.LOOP_ERRORS, lambda: life.loop_errors.total)
        provide(metrics.HANDLER_ERRORS, lambda: life.tasks.failed_handlers)
        provide(metrics.CONNECTION_RECORDS, self.connection_log.outcomes)
        provide(metrics.LOG_LINES_DROPPED, dropped_lines)
        provide(metrics.START_TIME, lambda: self._started_at)
        provide(metrics.CPU_SECONDS, process.observe_cpu_s)
        provide(metrics.RESIDENT_MEMORY, self._memory_bytes)
        provide(metrics.OPEN_DESCRIPTORS, process.observe_descriptors)
        provide(metrics.DESCRIPTOR_LIMIT, process.observe_descriptor_limit)
