"""The list turned into dictionaries: which line matches first, without walking the list.

Names cost one lookup per label of the request's name, addresses one per prefix length in use, ports
one binary search. None of it grows with the number of lines.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from egress_router.config.http_destination import Kind
from egress_router.policy.guard import carried_addresses
from egress_router.policy.portline import NO_LINE, Entry, PortLines, build_port_lines
from egress_router.policy.prefixes import (
    PrefixKey,
    PrefixTable,
    build_prefix_table,
    prefix_key,
)

if TYPE_CHECKING:
    from egress_router.config.http_rules import HttpRule
    from egress_router.policy.prefixes import IPAddress

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleIndex:
    """Answers "which is the first line that matches?"; a line is its index in the list."""

    hosts: dict[str, PortLines]
    domains: dict[str, PortLines]
    wildcards: PortLines
    networks: PrefixTable[PortLines]
    any_network: PortLines

    def first_for_name(self, name: str | None, port: int) -> int:
        """The first HOST, *.DOMAIN or `*` line for a name; None stands for an address literal."""
        best = self.wildcards.first(port)
        if name and (lines := self.hosts.get(name)) is not None:
            best = min(best, lines.first(port))
        suffix = name
        while suffix:
            if (lines := self.domains.get(suffix)) is not None:
                best = min(best, lines.first(port))
            suffix = suffix.partition(".")[2]
        return best

    def first_for_address(self, address: IPAddress, port: int, *, shortest: int = 0) -> int:
        """The first address or network line that holds an address, or what it carries.

        Networks with a prefix shorter than `shortest` do not count, nor does what is carried then.
        """
        found = [
            lines.first(port) for lines in self.networks.containing(address, shortest=shortest)
        ]
        if not shortest:
            for inner in carried_addresses(address):
                found.extend(lines.first(port) for lines in self.networks.containing(inner))
        return min(found, default=NO_LINE)

    def first_network(self, port: int) -> int:
        """The first address or network line at all for a port: before it no address matters."""
        return self.any_network.first(port)


def build_index(rules: tuple[HttpRule, ...]) -> RuleIndex:
    """The index of a list, in time n log n."""
    names: dict[Kind, defaultdict[str, list[Entry]]] = {
        Kind.ANY: defaultdict(list),
        Kind.HOST: defaultdict(list),
        Kind.DOMAIN: defaultdict(list),
    }
    networks: defaultdict[PrefixKey, list[Entry]] = defaultdict(list)
    for index, rule in enumerate(rules):
        if isinstance(rule.value, str):
            names[rule.kind][rule.value].append((index, rule.ports))
        else:
            networks[prefix_key(rule.value)].append((index, rule.ports))
    return RuleIndex(
        hosts=_fold(names[Kind.HOST]),
        domains=_fold(names[Kind.DOMAIN]),
        wildcards=build_port_lines(names[Kind.ANY]["*"]),
        networks=build_prefix_table(_fold(networks)),
        any_network=build_port_lines(list(chain.from_iterable(networks.values()))),
    )


def _fold(destinations: dict[K, list[Entry]]) -> dict[K, PortLines]:
    return {key: build_port_lines(entries) for key, entries in destinations.items()}
