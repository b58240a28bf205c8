"""The one table of log events: name, level, meaning, fields.

Rules of the table:
1. A name is stable: people write alerts on it. The README's table is tested against this one.
2. The level belongs to the event, so that one name is never info here and error there.
3. `fields` is everything a line may carry beside timestamp, level and event; a line may leave some
   out. A mode adds its events by `Event` constants here, and nothing logs by any other name.
4. `common` is what every process of a daemon comes to see by itself: only the first one writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error"]

RANKS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
RESERVED: Final = frozenset({"timestamp", "level", "event"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One kind of log line. `head` and `rank` are derived once, for the writer's speed."""

    name: str
    level: Level
    meaning: str
    fields: tuple[str, ...] = ()
    common: bool = False
    rank: int = field(init=False, repr=False)
    head: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", RANKS[self.level])
        object.__setattr__(self, "head", f'"level":"{self.level}","event":"{self.name}"')


# --- the daemon itself -------------------------------------------------------------------------
DAEMON_STARTED = Event(
    name="daemon_started",
    level="info",
    meaning="the mode serves; from now on a stop is a drain; compiled: whether its hot modules are",
    fields=("mode", "version", "compiled", "pid", "start_s"),
    common=True,
)
DAEMON_READY = Event(
    name="daemon_ready",
    level="info",
    meaning="every condition of readiness holds; after_s: how long it was not so",
    fields=("mode", "after_s"),
    common=True,
)
DAEMON_NOT_READY = Event(
    name="daemon_not_ready",
    level="warning",
    meaning="a condition of readiness fails; the reasons say which and why",
    fields=("mode", "reasons"),
    common=True,
)
DAEMON_STOPPING = Event(
    name="daemon_stopping",
    level="info",
    meaning="a signal asked for the end; not ready from now on, connections drain",
    fields=("mode", "signal", "drain_s"),
    common=True,
)
DAEMON_CUT = Event(
    name="daemon_cut",
    level="warning",
    meaning="a second signal, or the drain time, ended what was still open",
    fields=("mode", "reason"),
    common=True,
)
DAEMON_STOPPED = Event(
    name="daemon_stopped",
    level="info",
    meaning="the last line of a daemon",
    fields=("mode", "exit_code"),
    common=True,
)
DAEMON_FAILED = Event(
    name="daemon_failed",
    level="error",
    meaning="the daemon cannot go on; it ends with the exit code",
    fields=("mode", "error", "exit_code", "traceback"),
)
TASK_FAILED = Event(
    name="task_failed",
    level="error",
    meaning="a background task ended though it never should; the daemon ends with exit code 1",
    fields=("task", "error", "traceback"),
)
HANDLER_FAILED = Event(
    name="handler_failed",
    level="error",
    meaning="an unforeseen error ended one connection or request, and nothing else",
    fields=("task", "error", "traceback"),
)
LOOP_ERROR = Event(
    name="loop_error",
    level="error",
    meaning="the event loop reported an error that nobody caught; once per kind and second",
    fields=("message", "error", "suppressed", "traceback"),
)
WORKER_STARTED = Event(
    name="worker_started",
    level="info",
    meaning="another process of the daemon serves too; they are numbered from 1",
    fields=("worker", "pid"),
)
WORKER_ENDED = Event(
    name="worker_ended",
    level="error",
    meaning="a worker ended though it never should; the daemon ends too. exit_code: negative is "
    "the signal it died of",
    fields=("worker", "pid", "exit_code"),
)
WORKER_SILENT = Event(
    name="worker_silent",
    level="error",
    meaning="a worker answers nothing any more; it is killed, and the daemon ends",
    fields=("worker", "pid", "seconds"),
)
WORKER_BEHIND = Event(
    name="worker_behind",
    level="error",
    meaning="a worker could not put in force what the daemon did; its connections are judged by "
    "the old list, and the daemon is not ready",
    fields=("worker", "reason"),
)
RELOAD_REQUESTED = Event(
    name="reload_requested",
    level="info",
    meaning="SIGHUP asked to read the configuration again",
    fields=("mode",),
    common=True,
)
RELOAD_APPLIED = Event(
    name="reload_applied",
    level="info",
    meaning="a new configuration is in force, or without changes the old one still; ended: how "
    "many connections were ended because it does not allow them",
    fields=("mode", "source", "generation", "changes", "ended"),
    common=True,
)
RELOAD_REFUSED = Event(
    name="reload_refused",
    level="error",
    meaning="a new configuration is wrong, or could not be put in force; the old one stays",
    fields=("mode", "source", "generation", "changes", "problems"),
    common=True,
)
RELOAD_UNSUPPORTED = Event(
    name="reload_unsupported",
    level="error",
    meaning="a new configuration cannot be put in force by this daemon; the problem says what it "
    "would take",
    fields=("mode", "source", "generation", "changes", "problems"),
    common=True,
)
CONFIG_FILE_WARNING = Event(
    name="config_file_warning",
    level="warning",
    meaning="a configuration file is not followed as it should be, or never changes",
    fields=("mode", "path", "reason"),
    common=True,
)
LIBRARY_MESSAGE = Event(
    name="library_message",
    level="warning",
    meaning="a warning of a library the product uses",
    fields=("logger", "message", "traceback"),
)
LOG_LINES_LOST = Event(
    name="log_lines_lost",
    level="warning",
    meaning="standard output was blocked or closed; that many lines were dropped here",
    fields=("count",),
)
METRIC_FAILED = Event(
    name="metric_failed",
    level="warning",
    meaning="a metric could not be read and is missing from the answer; once per metric",
    fields=("metric", "error"),
)

# --- the network below the daemon ---------------------------------------------------------------
DRIFT_FOUND = Event(
    name="drift_found",
    level="warning",
    meaning="the kernel no longer shows what init set up; kind: link, address, route, rule, table",
    fields=("kind", "detail"),
    common=True,
)
DRIFT_REPAIRED = Event(
    name="drift_repaired",
    level="info",
    meaning="what had drifted is as init set it up again",
    fields=("kind", "detail", "repaired_by"),
    common=True,
)
REPAIR_FAILED = Event(
    name="repair_failed",
    level="error",
    meaning="a repair was tried and the kernel refused it",
    fields=("kind", "detail", "error"),
)
ADDRESS_ANNOUNCED = Event(
    name="address_announced",
    level="debug",
    meaning="the source address was announced to its neighbours",
    fields=("address", "link"),
)
ADDRESS_CONFLICT = Event(
    name="address_conflict",
    level="error",
    meaning="another station uses the source address; holder is its MAC address",
    fields=("address", "link", "holder"),
)

# --- what the kernel carries ---------------------------------------------------------------------
NAT_FORWARDED = Event(
    name="nat_forwarded",
    level="info",
    meaning="the kernel has forgotten a connection that it translated; seconds: to its last packet",
    fields=(
        "protocol",
        "client",
        "port",
        "address",
        "source",
        "answered",
        "bytes_up",
        "packets_up",
        "bytes_down",
        "packets_down",
        "started",
        "seconds",
        "target",
        "rule",
    ),
)
CONNECTION_LOG_LIMITED = Event(
    name="connection_log_limited",
    level="info",
    meaning="connections that the kernel carries have no line, or not a whole one, without these",
    fields=("missing",),
)

# --- the HTTP proxy ------------------------------------------------------------------------------
_DECISION_FIELDS = (
    "id",
    "client",
    "kind",
    "method",
    "target",
    "address",
    "verdict",
    "reason",
    "rule",
    "status",
    "bytes_up",
    "bytes_down",
    "seconds",
    "note",
)
HTTP_ALLOWED = Event(
    name="http_allowed",
    level="info",
    meaning="a request or tunnel that a rule allowed has ended; bytes_up: from the client",
    fields=_DECISION_FIELDS,
)
HTTP_REFUSED = Event(
    name="http_refused",
    level="warning",
    meaning="a request was refused: by a rule, by the guard, or because it is no proper request",
    fields=_DECISION_FIELDS,
)
HTTP_FAILED = Event(
    name="http_failed",
    level="error",
    meaning="a request was allowed and came to nothing: lookup, connection or answer failed",
    fields=_DECISION_FIELDS,
)
LISTENING = Event(
    name="listening",
    level="info",
    meaning="connections are accepted on an address and port; link: from there alone",
    fields=("address", "port", "link"),
    common=True,
)

# --- the DNS mode --------------------------------------------------------------------------------
_FORWARD_FIELDS = (
    "id",
    "client",
    "port",
    "target",
    "address",
    "rule",
    "reason",
    "bytes_up",
    "bytes_down",
    "seconds",
)
DNS_CONNECTED = Event(
    name="dns_connected",
    level="debug",
    meaning="a connection has reached its partner; seconds: since it was accepted",
    fields=_FORWARD_FIELDS,
)
DNS_FORWARDED = Event(
    name="dns_forwarded",
    level="info",
    meaning="a forwarded connection has ended; rule: its line of the list; bytes_up: by the client",
    fields=_FORWARD_FIELDS,
)
DNS_REFUSED = Event(
    name="dns_refused",
    level="warning",
    meaning="a connection was reset because as many as the limit allows are open",
    fields=_FORWARD_FIELDS,
)
DNS_FAILED = Event(
    name="dns_failed",
    level="error",
    meaning="no address of the partner could be connected to; the client was reset",
    fields=_FORWARD_FIELDS,
)
DNS_NAME_CHANGED = Event(
    name="dns_name_changed",
    level="info",
    meaning="the addresses in use for a name are others than before",
    fields=("name", "addresses", "before"),
    common=True,
)
DNS_NAME_STALE = Event(
    name="dns_name_stale",
    level="warning",
    meaning="DNS gives no usable answer for a name; its last good addresses stay in use",
    fields=("name", "detail"),
    common=True,
)
DNS_NAME_UNKNOWN = Event(
    name="dns_name_unknown",
    level="warning",
    meaning="a name has no address that may be used, so its ports refuse",
    fields=("name", "detail"),
    common=True,
)
DNS_NAME_RECOVERED = Event(
    name="dns_name_recovered",
    level="info",
    meaning="DNS answers for a name again",
    fields=("name",),
    common=True,
)
DNS_PORT_OPENED = Event(
    name="dns_port_opened",
    level="info",
    meaning="a port accepts connections",
    fields=("port", "target"),
    common=True,
)
DNS_PORT_CLOSED = Event(
    name="dns_port_closed",
    level="warning",
    meaning="a port refuses connections, because there is nothing behind it",
    fields=("port", "target", "reason"),
    common=True,
)
DNS_TABLE_LOADED = Event(
    name="dns_table_loaded",
    level="info",
    meaning="the kernel forwards new connections by the names' current addresses",
    fields=("ports",),
)
DNS_TABLE_FAILED = Event(
    name="dns_table_failed",
    level="error",
    meaning="the nftables table of forwarded ports could not be loaded; tried again each second",
    fields=("error",),
)

# --- the init program ---------------------------------------------------------------------------
CONFIGURATION_WARNING = Event(
    name="configuration_warning",
    level="warning",
    meaning="the configuration is accepted, but something in it has no effect or looks mistyped",
    fields=("message",),
    common=True,
)
STEP_APPLIED = Event(
    name="step_applied",
    level="debug",
    meaning="one change was made to the pod's network",
    fields=("step",),
)
UNDO_FAILED = Event(
    name="undo_failed",
    level="error",
    meaning="a run failed, and one of its changes could not be undone",
    fields=("step", "error"),
)
ADDRESS_HELD = Event(
    name="address_held",
    level="warning",
    meaning="another station answers for the source address; init waits for it to go",
    fields=("address", "holder"),
)
ANNOUNCE_FAILED = Event(
    name="announce_failed",
    level="warning",
    meaning="the source address could not be announced to its neighbours",
    fields=("link", "error"),
)
GATEWAY_FOUND = Event(
    name="gateway_found",
    level="info",
    meaning="the gateway answers on the egress link",
    fields=("gateway", "mac"),
)
GATEWAY_SILENT = Event(
    name="gateway_silent",
    level="warning",
    meaning="the gateway does not answer on the egress link; the hint names the usual causes",
    fields=("gateway", "hint"),
)
FLOWS_FORGOTTEN = Event(
    name="flows_forgotten",
    level="info",
    meaning="tracked connections that contradicted the new ruleset were deleted",
    fields=("count",),
)
INIT_DONE = Event(
    name="init_done",
    level="info",
    meaning="the pod's network is set up and verified",
    fields=("mode", "source", "link", "cluster_link", "destinations", "seconds"),
)

EVENTS: tuple[Event, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Event)
)
