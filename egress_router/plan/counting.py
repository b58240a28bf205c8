"""What the table counts, as text and as values.

1. `sent` and `received` count all that passes by redirection; a set element or a named counter for
   each destination counts its share. A packet costs one more lookup by hash, however many
   destinations there are.
2. The key is the port that the client has called, which conntrack knows for both directions: two
   ports that lead to the same server are counted apart.
3. Connections are counted where they are translated, by the elements of the redirect maps: the
   kernel looks there once for each connection.
4. Counters are state, not text: a listing without state, and with it the table's seal, is the same
   whatever has passed. So are elements of a dynamic set (`without_state`).
5. Where no fallback takes every other port, what passes by no range passes by one of the list's
   ports: their elements need not be there before their first packet, which makes them (or the next
   one, where the kernel has no memory at hand). That is two thirds of what nft reads, and the
   kernel holds, for a long list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from egress_router.config.destinations import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress_router.config.addresses import Address
    from egress_router.config.destinations import Destination, Destinations

DIRECTIONS = ("sent", "received")
DROPPED = "dropped_"
# What a counter of dropped packets says of them; the table's rules name the counters.
DROP_REASONS: dict[str, str] = {
    "source": "to leave without the source address, or with it by the cluster link",
    "cluster": "of the pod's own, to leave by the cluster link for the outside",
    "forward": "to pass through the pod without being redirected",
    "input": "of the outside network, to the pod itself",
}
_KEY = "meta nfproto . meta l4proto . ct original proto-dst"
# nft 1.1.4 says how many there are, behind the size.
_COUNTED = re.compile(r"(\n\t\tsize [0-9]+)[ \t]+# count [0-9]+(?=\n)")
# Ports beside the list's that a dynamic set has room for: those that others' tables translate.
_SPARE = 1024
_MADE = re.compile(
    r"(\n\t\tflags dynamic\n(?:\t\t(?!elements)[^\n]*\n)*)\t\telements = \{[^}]*\}\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What one counter has seen."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(packets=self.packets + other.packets, bytes=self.bytes + other.bytes)


NOTHING = Count()


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTally:
    """One destination of the table in force, and what went there and came back.

    `protocol` and `ports` None: the fallback. `target_port` None: the port that was called.
    """

    protocol: str | None
    ports: tuple[int, int] | None
    address: Address
    target_port: int | None
    connections: int
    sent: Count = NOTHING
    received: Count = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTally:
    """What one port of DNS mode's table has let through."""

    connections: int = 0
    sent: Count = NOTHING
    received: Count = NOTHING

    def __add__(self, other: PortTally) -> PortTally:
        return PortTally(
            connections=self.connections + other.connections,
            sent=self.sent + other.sent,
            received=self.received + other.received,
        )


Ports: TypeAlias = dict[tuple[str, int], PortTally]  # by protocol and port


def add_ports(one: Ports, other: Ports) -> Ports:
    """The sum, port by port."""
    none = PortTally()
    return {key: one.get(key, none) + other.get(key, none) for key in dict.fromkeys((*one, *other))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The table's named counters, and its destinations in the order of their ports."""

    counters: Mapping[str, Count] = field(default_factory=dict)
    destinations: tuple[DestinationTally, ...] = ()


def render_counters(destinations: Destinations | None) -> Iterator[str]:
    """The named counters; the fallbacks' own carry the address that they lead to."""
    for name in (*DIRECTIONS, *(f"{DROPPED}{reason}" for reason in DROP_REASONS)):
        yield f"\tcounter {name} {{ }}"
    for fallback in destinations.fallbacks if destinations else ():
        version = fallback.address.version
        yield f'\tcounter {fallback_counter(version)} {{ comment "{fallback.address}"; }}'
        for direction in DIRECTIONS:
            yield f"\tcounter {fallback_counter(version, direction)} {{ }}"


def fallback_counter(version: int, direction: str = "") -> str:
    """The counter of a fallback's connections, or of what it has sent or received."""
    return f"{direction}_fallback{version}" if direction else f"fallback{version}"


def render_sets(destinations: Destinations) -> Iterator[str]:
    """The sets whose elements count each destination's packets."""
    ports, ranges = _ports(destinations), _ranges(destinations)
    for direction in DIRECTIONS:
        if destinations.fallbacks:
            yield from _set(f"{direction}_by_port", ports)
        elif ports:
            flags = (f"size {len(ports) + _SPARE}", "flags dynamic")
            yield from _head(f"{direction}_by_port", flags)
            yield "\t}"
        yield from _set(f"{direction}_by_range", ranges, ("flags interval",))


def render_chains(destinations: Destinations) -> Iterator[str]:
    """The chains that count what is let pass; nothing that enters one is dropped."""
    for direction in DIRECTIONS:
        yield f"\tchain count_{direction} {{"
        yield f"\t\tcounter name {direction}"
        # nft takes the port out of conntrack only where it knows that the protocol has any.
        match = f"meta l4proto {{ {redirected_protocols(destinations)} }}"
        by_port = f"{_KEY} @{direction}_by_port"
        if not destinations.fallbacks:
            by_port = f"add @{direction}_by_port {{ {_KEY} }}"
        rules = [by_port] if _ports(destinations) else []
        rules += [f"{_KEY} @{direction}_by_range"] if _ranges(destinations) else []
        # The hash is asked first, unless it takes whatever it is asked for.
        for rule in rules if destinations.fallbacks else reversed(rules):
            yield f"\t\t{match} {rule} accept"
        for fallback in destinations.fallbacks:
            version = fallback.address.version
            name = fallback_counter(version, direction)
            yield (
                f"\t\tmeta nfproto ipv{version} meta l4proto {{ tcp, udp }} "
                f"counter name {name} accept"
            )
        yield "\t\taccept"
        yield "\t}"


def without_state(listing: str) -> str:
    """The listing of a table without the elements that packets have made."""
    return _MADE.sub(r"\1", _COUNTED.sub(r"\1", listing))


def redirected_protocols(destinations: Destinations) -> str:
    """The protocols that are redirected at all, as nft lists them: `tcp, udp`."""
    sctp = any(rule.protocol is Protocol.SCTP for rule in destinations.rules)
    return "tcp, udp, sctp" if sctp else "tcp, udp"


def _ports(destinations: Destinations) -> list[Destination]:
    return [rule for rule in destinations.rules if rule.first == rule.last]


def _ranges(destinations: Destinations) -> list[Destination]:
    return [rule for rule in destinations.rules if rule.first != rule.last]


def _set(name: str, rules: list[Destination], flags: tuple[str, ...] = ()) -> Iterator[str]:
    """A set that has an element for each of the rules; none without rules."""
    if not rules:
        return
    yield from _head(name, flags)
    joined = ",\n\t\t\t".join(map(_element, rules))
    yield f"\t\telements = {{ {joined} }}"
    yield "\t}"


def _head(name: str, flags: tuple[str, ...]) -> Iterator[str]:
    yield f"\tset {name} {{"
    yield "\t\ttype nf_proto . inet_proto . inet_service"
    for flag in flags:
        yield f"\t\t{flag}"
    yield "\t\tcounter"


def _element(rule: Destination) -> str:
    ports = f"{rule.first}" if rule.first == rule.last else f"{rule.first}-{rule.last}"
    return f"ipv{rule.address.version} . {rule.protocol} . {ports}"
