"""The one table of metrics: name, kind, meaning, unit, labels.

1. A name is stable: people build dashboards and alerts on it. The README's table is tested against
   this one.
2. Label values come from closed sets (a kind, a direction, a verdict), from the configuration (a
   port, a destination, a rule), or are the addresses a followed name has now; never from a client.
3. The open ones are bounded (`service.series`): what is beyond a thousand shares the value `other`;
   each of a daemon's processes has that bound.
4. `merged` says what a daemon of several processes tells: the sum or the largest of their values,
   or that of the first one, where all of them would say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric, named as it is scraped; counters end in `_total`, units in the name."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    merged: Literal["first", "sum", "max"] = "first"


BUILD_INFO = Metric(
    name="egress_router_build_info",
    kind="gauge",
    help="always 1; the labels say what runs",
    labels=("version", "mode"),
)
READY = Metric(
    name="egress_router_ready",
    kind="gauge",
    help="1 if the daemon is ready, else 0",
)
CONDITION = Metric(
    name="egress_router_condition",
    kind="gauge",
    help="1 if the condition of readiness holds, else 0",
    labels=("condition",),
)
CONFIG_GENERATION = Metric(
    name="egress_router_config_generation",
    kind="gauge",
    help="1 at the start, one more with each new configuration that was put in force",
)
CONFIG_RELOADS = Metric(
    name="egress_router_config_reloads_total",
    kind="counter",
    help="reloads by result: applied, refused (invalid), unsupported (this daemon cannot)",
    labels=("result",),
)
CONFIG_RELOAD_SUCCESSFUL = Metric(
    name="egress_router_config_last_reload_successful",
    kind="gauge",
    help="0 if the last reload was refused or unsupported, else 1",
)
CONFIG_RELOAD_TIME = Metric(
    name="egress_router_config_last_reload_timestamp_seconds",
    kind="gauge",
    help="when the last reload was, whatever came of it, in seconds since 1970",
    unit="seconds",
)
CONFIG_CONNECTIONS_ENDED = Metric(
    name="egress_router_config_connections_ended_total",
    kind="counter",
    help="connections ended because a new configuration does not allow them",
)
LINK_UP = Metric(
    name="egress_router_link_up",
    kind="gauge",
    help="1 if the egress link is up and has a carrier, else 0",
)
GATEWAY_STATE = Metric(
    name="egress_router_gateway_state",
    kind="gauge",
    help="1 for the state the gateway's neighbour entry is in: known (its MAC), asked, or failed "
    "(it did not answer); absent while nobody has sent anything to it",
    labels=("gateway", "state"),
)
LINK_BYTES = Metric(
    name="egress_router_link_bytes_total",
    kind="counter",
    help="bytes that passed the egress link, as its driver counts them",
    unit="bytes",
    labels=("direction",),
)
LINK_PACKETS = Metric(
    name="egress_router_link_packets_total",
    kind="counter",
    help="packets that passed the egress link",
    labels=("direction",),
)
CONNTRACK_ENTRIES = Metric(
    name="egress_router_conntrack_entries",
    kind="gauge",
    help="connections the kernel tracks for this pod",
)
CONNTRACK_LIMIT = Metric(
    name="egress_router_conntrack_limit",
    kind="gauge",
    help="connections it tracks at most (nf_conntrack_max of the node)",
)
NAT_PACKETS = Metric(
    name="egress_router_nat_packets_total",
    kind="counter",
    help="packets of translated connections that passed; needs NET_ADMIN",
    labels=("direction",),
)
NAT_BYTES = Metric(
    name="egress_router_nat_bytes_total",
    kind="counter",
    help="bytes of translated connections that passed; needs NET_ADMIN",
    unit="bytes",
    labels=("direction",),
)
DESTINATION_CONNECTIONS = Metric(
    name="egress_router_redirect_connections_total",
    kind="counter",
    help="connections translated to each destination since the table was loaded; needs NET_ADMIN",
    labels=("protocol", "port", "destination"),
)
DESTINATION_BYTES = Metric(
    name="egress_router_redirect_bytes_total",
    kind="counter",
    help="bytes sent to and received from each destination, IP headers included; needs NET_ADMIN",
    unit="bytes",
    labels=("protocol", "port", "destination", "direction"),
)
DROPS = Metric(
    name="egress_router_dropped_packets_total",
    kind="counter",
    help="packets dropped by our table (needs NET_ADMIN): source (to leave without the source "
    "address), cluster (of the pod's own, bound outside by the cluster link), forward (to pass "
    "through without redirection), input (of the outside, to the pod); by the kernel: "
    "conntrack_full, conntrack_failed (no entry could be made)",
    labels=("reason",),
)
REPAIRS = Metric(
    name="egress_router_repairs_total",
    kind="counter",
    help="repairs of drift that succeeded, by kind",
    labels=("kind",),
)
ADDRESS_CONFLICTS = Metric(
    name="egress_router_address_conflicts_total",
    kind="counter",
    help="times another station was seen to use the source address, at most one in ten seconds",
)
HTTP_REQUESTS = Metric(
    name="egress_router_http_requests_total",
    kind="counter",
    help="requests and tunnels that ended, by verdict: allowed, refused, failed",
    labels=("kind", "verdict"),
    merged="sum",
)
HTTP_DECISIONS = Metric(
    name="egress_router_http_decisions_total",
    kind="counter",
    help="requests and tunnels that ended, by the line that decided and verdict; line none: no "
    "line did (the guard, the end of the list, no proper request)",
    labels=("line", "rule", "verdict"),
    merged="sum",
)
HTTP_ACTIVE = Metric(
    name="egress_router_http_active",
    kind="gauge",
    help="client connections, requests and tunnels that are open now",
    labels=("kind",),
    merged="sum",
)
HTTP_BYTES = Metric(
    name="egress_router_http_bytes_total",
    kind="counter",
    help="bytes of bodies and tunnels passed on; up: from clients, down: to them",
    unit="bytes",
    labels=("direction",),
    merged="sum",
)
HTTP_ERRORS = Metric(
    name="egress_router_http_errors_total",
    kind="counter",
    help="requests refused or failed, by error type of RFC 9209",
    labels=("cause",),
    merged="sum",
)
HTTP_SHED = Metric(
    name="egress_router_http_shed_total",
    kind="counter",
    help="connections not served: full (answered 503) or descriptors (closed at once)",
    labels=("reason",),
    merged="sum",
)
HTTP_CONNECTION_LIMIT = Metric(
    name="egress_router_http_connection_limit",
    kind="gauge",
    help="client connections that are held at once at most",
    merged="sum",
)
DIAL_SECONDS = Metric(
    name="egress_router_dial_seconds",
    kind="histogram",
    help="how long it took to connect to a server, over all addresses tried; outcome: connected "
    "or failed",
    unit="seconds",
    labels=("outcome",),
    merged="sum",
)
RESOLVE_SECONDS = Metric(
    name="egress_router_resolve_seconds",
    kind="histogram",
    help="how long a lookup took that had to ask a nameserver; outcome: resolved or failed",
    unit="seconds",
    labels=("outcome",),
    merged="sum",
)
DNS_QUERIES = Metric(
    name="egress_router_dns_queries_total",
    kind="counter",
    help="what became of the resolver's queries and answers",
    labels=("outcome",),
    merged="sum",
)
DNS_CONNECTIONS = Metric(
    name="egress_router_dns_connections_total",
    kind="counter",
    help="connections by port and verdict: forwarded, failed (no partner), refused (the limit)",
    labels=("port", "verdict"),
    merged="sum",
)
DNS_KERNEL_CONNECTIONS = Metric(
    name="egress_router_dns_kernel_connections_total",
    kind="counter",
    help="connections that the kernel has carried (EGRESS_DNS_PROXY_DATAPATH)",
    labels=("protocol", "port"),
)
DNS_KERNEL_BYTES = Metric(
    name="egress_router_dns_kernel_bytes_total",
    kind="counter",
    help="bytes that the kernel has carried, IP headers included",
    unit="bytes",
    labels=("protocol", "port", "direction"),
)
DNS_ACTIVE = Metric(
    name="egress_router_dns_active_connections",
    kind="gauge",
    help="connections that are open now",
    labels=("port",),
    merged="sum",
)
DNS_BYTES = Metric(
    name="egress_router_dns_bytes_total",
    kind="counter",
    help="bytes passed on by the daemon; up: from clients, down: to them",
    unit="bytes",
    labels=("port", "direction"),
    merged="sum",
)
DNS_PORT_OPEN = Metric(
    name="egress_router_dns_port_open",
    kind="gauge",
    help="1 if the port accepts connections, 0 if it refuses",
    labels=("port",),
)
DNS_NAME_STATE = Metric(
    name="egress_router_dns_name_state",
    kind="gauge",
    help="1 for the state a name is in: waiting (never known), fresh, stale or failed",
    labels=("destination", "state"),
)
DNS_NAME_AGE = Metric(
    name="egress_router_dns_name_age_seconds",
    kind="gauge",
    help="how long ago a name's addresses were last confirmed",
    unit="seconds",
    labels=("destination",),
)
DNS_NAME_ADDRESSES = Metric(
    name="egress_router_dns_name_addresses",
    kind="gauge",
    help="how many addresses of a name are in use",
    labels=("destination",),
)
DNS_PARTNER_UP = Metric(
    name="egress_router_dns_partner_up",
    kind="gauge",
    help="1 for each address in use behind a port, 0 if it has failed within the last 30 seconds",
    labels=("port", "partner"),
)
DNS_CONNECTION_LIMIT = Metric(
    name="egress_router_dns_connection_limit",
    kind="gauge",
    help="connections that are carried at once at most",
    merged="sum",
)
LOOP_LAG = Metric(
    name="egress_router_loop_lag_seconds",
    kind="gauge",
    help="how late a timer ran at worst within the last 30 to 60 seconds",
    unit="seconds",
    merged="max",
)
LOOP_ERRORS = Metric(
    name="egress_router_loop_errors_total",
    kind="counter",
    help="errors nobody caught, reported by the event loop",
    merged="sum",
)
HANDLER_ERRORS = Metric(
    name="egress_router_handler_errors_total",
    kind="counter",
    help="connections and requests ended by an unforeseen error",
    merged="sum",
)
CONNECTION_RECORDS = Metric(
    name="egress_router_connection_records_total",
    kind="counter",
    help="connections that were carried, by what became of their line: written, left_out "
    "(EGRESS_CONNECTION_LOG), over_limit (more than 2000 a second), lost (events of the kernel)",
    labels=("outcome",),
    merged="sum",
)
LOG_LINES_DROPPED = Metric(
    name="egress_router_log_lines_dropped_total",
    kind="counter",
    help="log lines lost because standard output was blocked or closed",
    merged="sum",
)
# The names below are Prometheus' own for any process; dashboards know them.
START_TIME = Metric(
    name="process_start_time_seconds",
    kind="gauge",
    help="when the process started, in seconds since 1970",
    unit="seconds",
)
CPU_SECONDS = Metric(
    name="process_cpu_seconds_total",
    kind="counter",
    help="processor time used, user and system",
    unit="seconds",
    merged="sum",
)
RESIDENT_MEMORY = Metric(
    name="process_resident_memory_bytes",
    kind="gauge",
    help="memory in use",
    unit="bytes",
    merged="sum",
)
OPEN_DESCRIPTORS = Metric(
    name="process_open_fds",
    kind="gauge",
    help="file descriptors in use",
    merged="sum",
)
DESCRIPTOR_LIMIT = Metric(
    name="process_max_fds",
    kind="gauge",
    help="file descriptors the process may use",
    merged="sum",
)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
