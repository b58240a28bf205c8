"""How a daemon is put together: parse, logs, lifecycle, admin endpoint, mode.

`Mode` is all that this room asks of a mode; `Service` is all that a mode gets from it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from egress_router import __version__
from egress_router.config.daemon import DaemonConfig, parse_daemon
from egress_router.errors import ConfigurationError, Problem
from egress_router.service import metrics, process, signals
from egress_router.service.admin import AdminEndpoint, open_port, open_unix_socket
from egress_router.service.connection_log import ConnectionLog
from egress_router.service.events import CONFIGURATION_WARNING, DAEMON_STARTED
from egress_router.service.health import Readiness
from egress_router.service.lifecycle import Lifecycle, run_lifecycle
from egress_router.service.logs import (
    capture_library_messages,
    configure_logs,
    dropped_lines,
    log_event,
)
from egress_router.service.metric_registry import Metrics
from egress_router.service.reload import Reloader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from egress_router.config.settings import Environment

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


class Service:
    """What a mode gets: settings, readiness, metrics, tasks, reloads, and word of its end."""

    def __init__(
        self, mode: str, config: DaemonConfig, lifecycle: Lifecycle, environment: Environment
    ) -> None:
        self.mode = mode
        self.config = config
        self.lifecycle = lifecycle
        self.tasks = lifecycle.tasks
        age_s = process.observe_age_s()
        self.readiness = Readiness(mode, age_s=age_s)
        self.metrics = Metrics()
        self.connection_log = ConnectionLog(config.record_every)
        self.reload = Reloader(mode, environment, lifecycle, poll_s=config.reload_s)
        self._started_at = time.time() - age_s
        self._status: list[Callable[[], Mapping[str, Any]]] = []
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
        self.admin.wake()
        log_event(
            DAEMON_STARTED,
            mode=self.mode,
            version=__version__,
            pid=os.getpid(),
            start_s=round(process.observe_age_s(), 3),
        )

    def provide_status(self, source: Callable[[], Mapping[str, Any]]) -> None:
        """Adds facts to /status: scalars, mappings, lists; must not block, and may be called often.

        `source`, `gateway` and `link` are shown first, mappings and lists of mappings as sections.
        """
        self._status.append(source)

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
        if self.config.admin_port is not None:
            self.admin.add([open_port(address, self.config.admin_port) for address in addresses])

    def status_document(self) -> dict[str, Any]:
        """The document of /status: what all daemons tell, then what the mode tells."""
        snapshot = self.readiness.snapshot()
        return {
            "mode": self.mode,
            "version": __version__,
            "ready": snapshot.ready,
            "reasons": list(snapshot.reasons),
            "for_s": round(snapshot.for_s, 1),
            "warnings": [warning for source in self._warnings for warning in source()],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started_at)),
            **{name: fact for source in self._status for name, fact in source().items()},
            "reload": self.reload.report.status(),
            "conditions": {c.name: c.reason or "ok" for c in snapshot.conditions},
            "process": {
                "pid": os.getpid(),
                "memory_bytes": int(process.observe_memory_bytes()),
                "cpu_s": round(process.observe_cpu_s(), 2),
                "open_descriptors": int(process.observe_descriptors()),
                "loop_lag_s": round(self.lifecycle.lag.largest_s(), 4),
                "log_lines_dropped": dropped_lines(),
            },
        }

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
        provide(metrics.RESIDENT_MEMORY, process.observe_memory_bytes)
        provide(metrics.OPEN_DESCRIPTORS, process.observe_descriptors)
        provide(metrics.DESCRIPTOR_LIMIT, process.observe_descriptor_limit)


def run_daemon(mode: Mode[Config], environment: Environment) -> int:
    """Runs one daemon to its end and returns its exit code; everything later is in the log.

    Raises ConfigurationError, before anything was touched, with the problems of the daemon's
    settings and of the mode's own.
    """
    signals.install_early_handlers()
    daemon_config, mode_config = _parse(mode, environment)
    configure_logs(daemon_config.log, daemon=True)
    for warning in daemon_config.warnings:
        log_event(CONFIGURATION_WARNING, message=warning)
    signals.fill_standard_descriptors()
    capture_library_messages()

    async def serve(lifecycle: Lifecycle) -> None:
        service = Service(mode.name, daemon_config, lifecycle, environment)
        # A task of its own: the endpoint outlives the mode, so that a drain can be watched to its
        # end.
        service.admin.add([open_unix_socket(mode.name)])
        lifecycle.tasks.start_vital("admin endpoint", service.admin.serve())
        try:
            await mode.serve(mode_config, service)
        finally:
            service.reload.close()

    return run_lifecycle(mode.name, serve)


def _parse(mode: Mode[Config], environment: Environment) -> tuple[DaemonConfig, Config]:
    problems: list[Problem] = []
    try:
        daemon_config = parse_daemon(environment)
    except ConfigurationError as error:
        problems.extend(error.problems)
    try:
        mode_config = mode.parse(environment)
    except ConfigurationError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    return daemon_config, mode_config
