"""The text of the one nftables table, `inet egress_router`.

What it guarantees, chain by chain:

1. `mark_*`: a connection that came in from the cluster is answered to the cluster, whatever the
   main routing table says.
2. `nat_prerouting`: only TCP, UDP and SCTP that the cluster sends to the pod's own addresses is
   redirected; one map lookup per new connection, however many destinations there are.
3. `nat_postrouting`, `guard_postrouting`: what leaves by the egress link carries the source
   address. The guard sees packets after NAT, so also those that conntrack would not translate.
4. `guard_forward`: only redirected connections and their answers pass through the pod, each packet
   counted for its destination (`plan.counting`).
5. `guard_input`: the outside network opens nothing. Router advertisements and redirects from there
   are dropped, so no sysctl is needed against them.
6. `guard_output`: by the cluster link the pod sends answers, and to the cluster; connections that
   it opened elsewhere before the table was there end.
   One spare loopback address is rejected with a code that nothing else gives: the canary, by which
   an unprivileged daemon sees that the table is in force.

Text is made from parsed values only; no word of the environment reaches nft except link names,
which `config` has restricted.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from egress_router.plan.counting import (
    DIRECTIONS,
    fallback_counter,
    redirected_protocols,
    render_chains,
    render_counters,
    render_sets,
)
from egress_router.plan.state import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress_router.config.addresses import Address, Network
    from egress_router.config.destinations import Destinations

TABLE = "egress_router"
CANARY_ADDRESS = "127.86.86.86"  # in 127.0.0.0/8, where nothing but a pod's own oddities lives
CANARY_PORT = 86
COMMENT_PREFIX = "egress-router "

_MARK = f"0x{MARK:08x}"
_ALWAYS_CLUSTER = tuple(
    ipaddress.ip_network(text)
    for text in ("224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8")
)  # link-scope traffic of the cluster link itself: never routed to an outside destination


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesetSpec:
    """What the table's text depends on. `destinations` None: no redirect NAT (proxy modes)."""

    cluster: str
    egress: str
    sources: tuple[Address, ...]
    destinations: Destinations | None
    cluster_networks: tuple[Network, ...] = ()
    nameservers: tuple[Address, ...] = ()
    admin_port: int | None = None

    def __hash__(self) -> int:
        # Enough to be told apart by: ten thousand destinations take longer than the comparison.
        return hash((self.cluster, self.egress, self.sources, self.nameservers))


@lru_cache(maxsize=2)  # every look at the namespace wants the same again: a daemon's, init's second
def render_ruleset(spec: RulesetSpec) -> str:
    """The text that replaces the table in one transaction, as `nft -f` reads it."""
    body = "\n".join(_body(spec))
    digest = hashlib.sha256(body.encode()).hexdigest()[:32]
    return (
        f"table inet {TABLE}\n"
        f"delete table inet {TABLE}\n"
        f"table inet {TABLE} {{\n"
        f'\tcomment "{COMMENT_PREFIX}{digest}"\n'
        f"{body}\n"
        "}\n"
    )


def ruleset_digest(text: str) -> str:
    """The digest that a ruleset's text, or the kernel's listing of it, carries; empty if none."""
    _, found, rest = text.partition(f'comment "{COMMENT_PREFIX}')
    return rest.partition('"')[0] if found else ""


def render_removal() -> str:
    """The text that removes the table, whether it is there or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _body(spec: RulesetSpec) -> Iterator[str]:
    yield from render_counters(spec.destinations)
    yield ""
    yield from _cluster_sets(spec)
    if spec.destinations is not None:
        yield from _maps(spec.destinations)
        yield from render_sets(spec.destinations)
    yield from _mark_chains(spec)
    if spec.destinations is not None:
        yield from _redirect_chain(spec, spec.destinations)
    yield from _source_chains(spec)
    yield from _guard_chains(spec)


def _cluster_sets(spec: RulesetSpec) -> Iterator[str]:
    networks = (*spec.cluster_networks, *_ALWAYS_CLUSTER)
    for version in (4, 6):
        yield f"\tset cluster{version} {{"
        yield f"\t\ttype ipv{version}_addr"
        yield "\t\tflags interval"
        yield f"\t\telements = {{ {', '.join(map(str, _collapse(networks, version)))} }}"
        yield "\t}"


def _collapse(networks: Iterable[Network], version: int) -> list[Network]:
    of_family = [network for network in networks if network.version == version]
    return list(ipaddress.collapse_addresses(of_family))  # type: ignore[type-var]  # one family


def _maps(destinations: Destinations) -> Iterator[str]:
    for version in (4, 6):
        ports, ranges = [], []
        for rule in destinations.rules:
            if rule.address.version != version:
                continue
            if rule.first == rule.last:
                target = rule.target_port or rule.first
                ports.append(f"{rule.protocol} . {rule.first} : {rule.address} . {target}")
            else:
                ranges.append(f"{rule.protocol} . {rule.first}-{rule.last} : {rule.address}")
        kind = f"type inet_proto . inet_service : ipv{version}_addr"
        yield from _map(f"redirect{version}", f"{kind} . inet_service", "", ports)
        yield from _map(f"ranges{version}", kind, "flags interval", ranges)


def _map(name: str, kind: str, flags: str, elements: list[str]) -> Iterator[str]:
    if not elements:
        return
    yield f"\tmap {name} {{"
    yield f"\t\t{kind}"
    if flags:
        yield f"\t\t{flags}"
    yield "\t\tcounter"
    joined = ",\n\t\t\t".join(elements)
    yield f"\t\telements = {{ {joined} }}"
    yield "\t}"


def _mark_chains(spec: RulesetSpec) -> Iterator[str]:
    answer = f"ct direction reply ct mark & {_MARK} == {_MARK} meta mark set meta mark | {_MARK}"
    yield "\tchain mark_prerouting {"
    yield "\t\ttype filter hook prerouting priority mangle; policy accept;"
    yield f'\t\tiifname "{spec.cluster}" ct state new ct mark set ct mark | {_MARK}'
    yield f"\t\t{answer}"
    yield "\t}"
    yield "\tchain mark_output {"
    yield "\t\ttype route hook output priority mangle; policy accept;"
    yield f"\t\t{answer}"
    yield "\t}"


def _redirect_chain(spec: RulesetSpec, destinations: Destinations) -> Iterator[str]:
    yield "\tchain nat_prerouting {"
    yield "\t\ttype nat hook prerouting priority dstnat; policy accept;"
    yield f'\t\tiifname != "{spec.cluster}" accept'
    yield "\t\tfib daddr type != local accept"
    yield f"\t\tmeta l4proto != {{ {redirected_protocols(destinations)} }} accept"
    if spec.admin_port is not None:
        yield f"\t\ttcp dport {spec.admin_port} accept"
    for version in (4, 6):
        family = "ip" if version == 4 else "ip6"
        match = f"meta nfproto ipv{version}"
        rules = [rule for rule in destinations.rules if rule.address.version == version]
        lookup = "meta l4proto . th dport map"
        if any(rule.first == rule.last for rule in rules):
            yield f"\t\t{match} dnat {family} to {lookup} @redirect{version}"
        if any(rule.first != rule.last for rule in rules):
            yield f"\t\t{match} dnat {family} to {lookup} @ranges{version}"
        if fallback := destinations.fallback(version):
            yield (
                f"\t\t{match} meta l4proto {{ tcp, udp }} counter name {fallback_counter(version)} "
                f"dnat {family} to {fallback.address}"
            )
    yield "\t}"


def _source_chains(spec: RulesetSpec) -> Iterator[str]:
    egress, cluster = f'oifname "{spec.egress}"', f'oifname "{spec.cluster}"'
    sources = {address.version: address for address in spec.sources}
    yield "\tchain nat_postrouting {"
    yield "\t\ttype nat hook postrouting priority srcnat; policy accept;"
    for version, address in sources.items():
        family = "ip" if version == 4 else "ip6"
        yield f"\t\t{egress} {family} saddr != {address} snat {family} to {address}"
    yield "\t}"
    yield "\tchain guard_postrouting {"
    yield "\t\ttype filter hook postrouting priority srcnat + 10; policy accept;"
    for version, address in sources.items():
        family = "ip" if version == 4 else "ip6"
        yield (
            f"\t\t{cluster} ct direction original {family} saddr {address} "
            "counter name dropped_source drop"
        )
        yield f"\t\t{egress} {family} saddr {address} accept"
    yield (
        f"\t\t{egress} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, "
        "mld-listener-report, mld2-listener-report } accept"
    )
    yield f"\t\t{egress} icmpv6 type nd-router-solicit drop"
    yield f"\t\t{egress} counter name dropped_source drop"
    yield "\t}"


def _guard_chains(spec: RulesetSpec) -> Iterator[str]:
    cluster, egress = f'"{spec.cluster}"', f'"{spec.egress}"'
    passes = {direction: f"counter name {direction} accept" for direction in DIRECTIONS}
    if spec.destinations is not None:
        yield from render_chains(spec.destinations)
        passes = {direction: f"goto count_{direction}" for direction in DIRECTIONS}
    yield "\tchain guard_forward {"
    yield "\t\ttype filter hook forward priority filter; policy drop;"
    yield "\t\ttcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"
    yield (
        f"\t\tiifname {cluster} oifname {egress} ct direction original ct status dnat "
        f"{passes['sent']}"
    )
    yield (
        f"\t\tiifname {egress} oifname {cluster} ct direction reply ct status dnat "
        f"ct state established,related {passes['received']}"
    )
    yield "\t\tcounter name dropped_forward"
    yield "\t}"
    yield from _input_chain(spec)
    yield from _output_chain(spec)


def _input_chain(spec: RulesetSpec) -> Iterator[str]:
    yield "\tchain guard_input {"
    yield "\t\ttype filter hook input priority filter; policy accept;"
    yield f'\t\tiifname != "{spec.egress}" accept'
    yield "\t\ticmp type redirect drop"
    yield "\t\ticmpv6 type { nd-router-advert, nd-redirect } drop"
    yield "\t\tct state established,related accept"
    for address in spec.sources:
        # The pod's other addresses answer by the cluster link: not to somebody outside.
        family, icmp = ("ip", "icmp") if address.version == 4 else ("ip6", "icmpv6")
        yield f"\t\t{family} daddr {address} {icmp} type echo-request accept"
    yield ("\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query } accept")
    yield "\t\tcounter name dropped_input drop"
    yield "\t}"


def _output_chain(spec: RulesetSpec) -> Iterator[str]:
    yield "\tchain guard_output {"
    yield "\t\ttype filter hook output priority filter; policy accept;"
    yield (
        f"\t\tip daddr {CANARY_ADDRESS} tcp dport {CANARY_PORT} reject with icmp admin-prohibited"
    )
    yield f'\t\toifname != "{spec.cluster}" accept'
    yield "\t\tct direction reply accept"
    yield "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    yield "\t\tip daddr @cluster4 accept"
    yield "\t\tip6 daddr @cluster6 accept"
    for version in (4, 6):
        servers = sorted({a for a in spec.nameservers if a.version == version})
        if servers:
            family = "ip" if version == 4 else "ip6"
            listed = ", ".join(map(str, servers))
            yield (
                f"\t\t{family} daddr {{ {listed} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
            )
    yield "\t\tcounter name dropped_cluster drop"
    yield "\t}"
