"""Every variable the product reads: who reads it, its default, its unit and its meaning.

The README's table is tested against this one. A daemon or mode adds rows here and reads them with
`config.settings`; nothing else in the product spells a variable's name.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "EGRESS_"
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
    programs=("init",),
    meaning="path of a file that holds the text of `EGRESS_DESTINATION`",
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
    meaning="network namespace of the parent NIC, such as a mounted `/proc/1/ns/net`; unset: the "
    "pod's own",
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
    "`EGRESS_CONFLICT_TIMEOUT`, then exits 3; `takeover` does not probe and claims at once",
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
    default="0.6",
    unit="s",
    meaning="how long one round of address probes listens for a holder; RFC 5227 takes 4 to 7",
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
    meaning="also serve /healthz, /readyz, /status and /metrics on this port, cluster side only; "
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

VARIABLES: tuple[Variable, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Variable)
)


def unknown_variables(names: Iterable[str]) -> tuple[str, ...]:
    """One warning for each name with our prefix that is close to a known variable but is none."""
    known = {variable.name for variable in VARIABLES}
    warnings = []
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in known:
            continue
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            warnings.append(f"unknown variable {name}: did you mean {close[0]}?")
    return tuple(warnings)
