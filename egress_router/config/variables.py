"""Every variable the product reads: who reads it, its default, its unit and its meaning.

The README's table is tested against this one. A daemon or mode adds rows here and reads them with
`config.settings`; nothing else in the product spells a variable's name.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "EGRESS_"
# What Kubernetes tells a pod of a Service of its namespace, behind the Service's name.
_SERVICE_HOST = "_SERVICE_HOST"
_SERVICE_FACT = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z"
)
ALL_DAEMONS = ("redirect", "http", "dns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One environment variable. `default` is text in the variable's own grammar, None = unset."""

    name: str
    programs: tuple[str, ...]
    meaning: str
    default: str | None = None
    unit: str = ""


SOURCE = Variable(
    name="EGRESS_SOURCE",
    programs=("init",),
    meaning="the reserved source address, `ADDRESS[/LEN]`; one IPv4 and/or one IPv6, separated by "
    "a comma or blanks; no length means /32 or /128",
)
SOURCE_POOL = Variable(
    name="EGRESS_SOURCE_POOL",
    programs=("init",),
    meaning="instead of `EGRESS_SOURCE`, for a StatefulSet: the addresses of its pods, "
    "`ADDRESS[/LEN]` or `ADDRESS-ADDRESS[/LEN]`, separated by commas or blanks; the pod NAME-N "
    "takes address N of each family, counted from 0",
)
GATEWAY = Variable(
    name="EGRESS_GATEWAY",
    programs=("init",),
    meaning="the gateway on the outside network, one address per family of the source; need not "
    "lie in the source's prefix",
)
DESTINATION = Variable(
    name="EGRESS_DESTINATION",
    programs=("init",),
    meaning="redirect rules, one per line: `PORT[-PORT] PROTOCOL ADDRESS [PORT]`; last, once per "
    "family, `ADDRESS` for everything else",
)
DESTINATION_FILE = Variable(
    name="EGRESS_DESTINATION_FILE",
    programs=("init", "redirect"),
    meaning="path of a file that holds the text of `EGRESS_DESTINATION`; watched while the daemon "
    "runs",
    unit="path",
)
ROUTER_MODE = Variable(
    name="EGRESS_ROUTER_MODE",
    programs=("init",),
    default="init",
    meaning="`init`: link, routes, NAT; `http-proxy`, `dns-proxy`: link and routes only; "
    "`legacy`: as init, then stays as the redirect daemon; `unit-test`: as `check`",
)
ROUTER_DEBUG = Variable(
    name="EGRESS_ROUTER_DEBUG",
    programs=("init",),
    meaning="non-empty: log at debug level",
)
INTERFACE = Variable(
    name="EGRESS_INTERFACE",
    programs=("init", *ALL_DAEMONS),
    meaning="name of the egress link; unset: `macvlan0`, else `net1`, else a link is created "
    "under the name `macvlan0`",
)
CLUSTER_INTERFACE = Variable(
    name="EGRESS_CLUSTER_INTERFACE",
    programs=("init",),
    meaning="name of the cluster link; unset: the link of the pod's default route",
)
PARENT = Variable(
    name="EGRESS_PARENT",
    programs=("init",),
    meaning="parent NIC for a link that init creates; unset: the one whose address shares the "
    "gateway's subnet, else (in `EGRESS_PARENT_NETNS`) the link of the default route",
)
PARENT_NETNS = Variable(
    name="EGRESS_PARENT_NETNS",
    programs=("init",),
    meaning="network namespace of the parent NIC, such as `net` in a mounted `/proc/1/ns`; unset: "
    "the pod's own",
    unit="path",
)
MACVLAN_MODE = Variable(
    name="EGRESS_MACVLAN_MODE",
    programs=("init",),
    meaning="`private`, `vepa`, `bridge` or `passthru`; created links: private; a link handed over "
    "is refused only if this is set and differs",
)
MTU = Variable(
    name="EGRESS_MTU",
    programs=("init",),
    meaning="MTU of the egress link, 1280 to 65535; unset: the parent's, or what the link has",
    unit="bytes",
)
MAC = Variable(
    name="EGRESS_MAC",
    programs=("init",),
    meaning="MAC address of the egress link; unset: derived from the source on a link that init "
    "creates, unchanged on a link handed over",
)
CONFLICT = Variable(
    name="EGRESS_CONFLICT",
    programs=("init",),
    default="wait",
    meaning="when another station holds the source: `wait` probes again until "
    "`EGRESS_CONFLICT_TIMEOUT`, then exits 3 (at once for one that answers no probe and defends "
    "the address); `takeover` does not probe and claims at once",
)
CONFLICT_TIMEOUT = Variable(
    name="EGRESS_CONFLICT_TIMEOUT",
    programs=("init",),
    default="30",
    unit="s",
    meaning="how long to wait for a held address to become free; 0 probes once",
)
PROBE = Variable(
    name="EGRESS_PROBE_SECONDS",
    programs=("init",),
    default="0.2",
    unit="s",
    meaning="how long one round of address probes listens for a holder; who defends the address "
    "against its claim is heard until init is done. RFC 5227 takes 4 to 7",
)
CLUSTER_CIDRS = Variable(
    name="EGRESS_CLUSTER_CIDRS",
    programs=("init",),
    meaning="networks the pod itself reaches by the cluster link, such as the service network; "
    "answers to clients need no entry",
)
SERVICE_HOST = Variable(
    name="KUBERNETES_SERVICE_HOST",
    programs=("init",),
    meaning="set by Kubernetes; the pod reaches this address by the cluster link",
)
ADMIN_PORT = Variable(
    name="EGRESS_ADMIN_PORT",
    programs=("init", *ALL_DAEMONS),
    meaning="also serve /healthz, /readyz, /status, /metrics and a status page on this port, "
    "cluster side only; "
    "give init the same value, so that a fallback does not redirect the port",
)
LOG_FORMAT = Variable(
    name="EGRESS_LOG_FORMAT",
    programs=("init", *ALL_DAEMONS),
    meaning="`json` or `text`; unset: text on a terminal, else json",
)
LOG_LEVEL = Variable(
    name="EGRESS_LOG_LEVEL",
    programs=("init", *ALL_DAEMONS),
    default="info",
    meaning="`debug`, `info`, `warning` or `error`",
)
CONNECTION_LOG = Variable(
    name="EGRESS_CONNECTION_LOG",
    programs=ALL_DAEMONS,
    default="full",
    meaning="a line for each connection that was carried, when it has ended: `full`, `off`, or "
    "`sampled:N`, one in N (2 to 1000000); those refused or failed have theirs always",
)
ANNOUNCE = Variable(
    name="EGRESS_ANNOUNCE_SECONDS",
    programs=("redirect",),
    default="60",
    unit="s",
    meaning="how often the address is announced again where the daemon has NET_RAW; 0: never",
)
WATCH = Variable(
    name="EGRESS_WATCH_SECONDS",
    programs=ALL_DAEMONS,
    default="2",
    unit="s",
    meaning="how often the daemon looks at the network by itself; changes wake it at once",
)
RELOAD = Variable(
    name="EGRESS_RELOAD_SECONDS",
    programs=ALL_DAEMONS,
    default="10",
    unit="s",
    meaning="how often the file of the list is looked at by itself; changes are noticed at once; "
    "0: it is read again on SIGHUP alone",
)
WORKERS = Variable(
    name="EGRESS_WORKERS",
    programs=("http", "dns"),
    default="auto",
    meaning="processes that share the connections, 1 to 64; `auto`: one for each processor that "
    "the container may use by its CPU limit, at most 4",
)
HTTP_DESTINATION = Variable(
    name="EGRESS_HTTP_PROXY_DESTINATION",
    programs=("http",),
    meaning="destination rules, one per line: `[!]ADDRESS`, `NETWORK`, `HOST` or `*.DOMAIN`, each "
    "with an optional `:PORT[-PORT]`; last, `*`; `!` denies, the first match decides",
)
HTTP_DESTINATION_FILE = Variable(
    name="EGRESS_HTTP_PROXY_DESTINATION_FILE",
    programs=("http",),
    meaning="path of a file that holds the text of `EGRESS_HTTP_PROXY_DESTINATION`; watched "
    "while the daemon runs",
    unit="path",
)
HTTP_MODE = Variable(
    name="EGRESS_HTTP_PROXY_MODE",
    programs=("http",),
    meaning="`unit-test`: as `check http`",
)
HTTP_PORT = Variable(
    name="EGRESS_HTTP_PROXY_PORT",
    programs=("http",),
    default="8080",
    meaning="port of the HTTP proxy, on the pod's cluster-side addresses and the loopback",
)
HTTP_CONNECTION_LIMIT = Variable(
    name="EGRESS_HTTP_PROXY_CONNECTION_LIMIT",
    programs=("http",),
    meaning="client connections held at once, the next one is answered 503; unset, and at most: "
    "half of what the limit of descriptors allows",
)
HTTP_HEAD_LIMIT = Variable(
    name="EGRESS_HTTP_PROXY_HEAD_LIMIT",
    programs=("http",),
    default="65536",
    unit="bytes",
    meaning="size of a message's head, 1024 to 1048576; a longer one is refused",
)
HTTP_FIELD_LIMIT = Variable(
    name="EGRESS_HTTP_PROXY_FIELD_LIMIT",
    programs=("http",),
    default="100",
    meaning="header fields of a message, 10 to 10000; one with more is refused",
)
HTTP_HEAD_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_HEAD_SECONDS",
    programs=("http",),
    default="15",
    unit="s",
    meaning="a request's head is complete this long after the connection or its first byte, "
    "however it drips; else 408",
)
HTTP_KEEPALIVE_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_KEEPALIVE_SECONDS",
    programs=("http",),
    default="60",
    unit="s",
    meaning="how long a connection waits for its next request before it is closed",
)
HTTP_ANSWER_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_ANSWER_SECONDS",
    programs=("http",),
    default="900",
    unit="s",
    meaning="how long a server may take from the request's last byte to its answer; else 504",
)
HTTP_BODY_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_BODY_SECONDS",
    programs=("http",),
    default="60",
    unit="s",
    meaning="how long a body may rest, because nobody sends or nobody takes it",
)
HTTP_TUNNEL_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_TUNNEL_SECONDS",
    programs=("http",),
    default="3600",
    unit="s",
    meaning="a tunnel (CONNECT, WebSocket) in which no byte moves for so long is closed",
)
HTTP_DIAL_SECONDS = Variable(
    name="EGRESS_HTTP_PROXY_DIAL_SECONDS",
    programs=("http",),
    default="10",
    unit="s",
    meaning="how long connecting to a server may take, over all of its addresses; else 504",
)
DRAIN = Variable(
    name="EGRESS_DRAIN_SECONDS",
    programs=("http", "dns"),
    default="25",
    unit="s",
    meaning="after SIGTERM: how long what is open may take to end before it is cut; shorter than "
    "the pod's terminationGracePeriodSeconds (30)",
)
DNS_DESTINATION = Variable(
    name="EGRESS_DNS_PROXY_DESTINATION",
    programs=("dns",),
    meaning="forwarded ports, one per line: `PORT HOST [PORT]`, HOST an address or a name with a "
    "dot in it; `PORT udp HOST [PORT]` with the kernel's data path",
)
DNS_DESTINATION_FILE = Variable(
    name="EGRESS_DNS_PROXY_DESTINATION_FILE",
    programs=("dns",),
    meaning="path of a file that holds the text of `EGRESS_DNS_PROXY_DESTINATION`; watched "
    "while the daemon runs",
    unit="path",
)
DNS_MODE = Variable(
    name="EGRESS_DNS_PROXY_MODE",
    programs=("dns",),
    meaning="`unit-test`: as `check dns`",
)
DNS_DEBUG = Variable(
    name="EGRESS_DNS_PROXY_DEBUG",
    programs=("dns",),
    meaning="non-empty: log at debug level, with a line also when a connection begins",
)
DNS_DATAPATH = Variable(
    name="EGRESS_DNS_PROXY_DATAPATH",
    programs=("dns",),
    default="userspace",
    meaning="who carries the bytes: `userspace`; `kernel`, which needs NET_ADMIN in the daemon; "
    "`auto`: the kernel if the daemon has that capability",
)
DNS_CONNECTION_LIMIT = Variable(
    name="EGRESS_DNS_PROXY_CONNECTION_LIMIT",
    programs=("dns",),
    meaning="connections carried at once, the next one is reset; unset, and at most: half of what "
    "the limit of descriptors allows",
)
DNS_IDLE_SECONDS = Variable(
    name="EGRESS_DNS_PROXY_IDLE_SECONDS",
    programs=("dns",),
    default="3600",
    unit="s",
    meaning="a connection in which no byte moves for so long is closed (the originals: 60)",
)
DNS_DIAL_SECONDS = Variable(
    name="EGRESS_DNS_PROXY_DIAL_SECONDS",
    programs=("dns",),
    default="10",
    unit="s",
    meaning="how long connecting to a partner may take, over at most three of its addresses",
)
DNS_CHECK_SECONDS = Variable(
    name="EGRESS_DNS_PROXY_CHECK_SECONDS",
    programs=("dns",),
    unit="s",
    meaning="how often each partner address is connected to, to see whether it lives; 0: never; "
    "unset: never in userspace, every 5 s with the kernel's data path",
)

VARIABLES: tuple[Variable, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Variable)
)
# The originals' tests: with this value a program checks its environment and ends.
UNIT_TEST = "unit-test"
UNIT_TEST_SWITCHES: dict[str, Variable] = {
    "init": ROUTER_MODE,
    "http": HTTP_MODE,
    "dns": DNS_MODE,
}


def unknown_variables(names: Iterable[str]) -> tuple[str, ...]:
    """One warning for each name with our prefix that is close to a known variable but is none.

    Not those by which Kubernetes tells of a Service: `EGRESS_1_PORT` of a Service `egress-1`, which
    always comes with `EGRESS_1_SERVICE_HOST`.
    """
    names = frozenset(names)
    known = {variable.name for variable in VARIABLES}
    services = {n.removesuffix(_SERVICE_HOST) for n in names if n.endswith(_SERVICE_HOST)}
    warnings = []
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in known:
            continue
        if any(_SERVICE_FACT.match(name.removeprefix(service)) for service in services):
            continue
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            warnings.append(f"unknown variable {name}: did you mean {close[0]}?")
    return tuple(warnings)
