"""The text of the table `inet egress_router_dns`: DNS mode's ports, forwarded in the kernel.

1. A new connection to a port takes the next of its addresses: `numgen` counts, a map turns number,
   protocol and port into an address. There is one map for each count of addresses, so a port costs
   an element for each address and a connection one lookup for each count in use.
2. Only what the cluster sends to the pod's own addresses is translated. Source address, filters and
   marks are those of the main table, which this one leaves alone.
3. A port without an address is not in a map: its packets go to the pod itself, where the daemon
   listens, or where nobody does and the kernel refuses.
4. Connections that are open stay where they are: the kernel asks these chains for new ones only.
5. The elements of the maps count connections, those of two sets the packets of each port; the main
   table decides about them (`plan.counting`, rules 2 and 4).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.plan.counting import DIRECTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from egress_router.config.addresses import Address
    from egress_router.config.dns_destination import Protocol
    from egress_router.plan.flows import Flow

TABLE = "egress_router_dns"
COMMENT_PREFIX = "egress-router dns "
_MAP = re.compile(r"^\tmap (\S+) \{$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One port, and where the next connections to it go; both families may be among them."""

    protocol: Protocol
    port: int
    addresses: tuple[Address, ...]
    target_port: int

    def of(self, version: int) -> tuple[Address, ...]:
        """The addresses for clients of that family: the kernel does not turn one into the other."""
        return tuple(address for address in self.addresses if address.version == version)


def render_forwards(cluster: str, forwards: Sequence[Forward]) -> str:
    """The text that replaces the table in one transaction, as `nft -f` reads it."""
    body = "\n".join(_body(cluster, forwards))
    digest = hashlib.sha256(body.encode()).hexdigest()[:32]
    return (
        f"{render_forwards_removal()}"
        f"table inet {TABLE} {{\n"
        f'\tcomment "{COMMENT_PREFIX}{digest}"\n'
        f"{body}\n"
        "}\n"
    )


def map_names(text: str) -> tuple[str, ...]:
    """The maps of a table that `render_forwards` has made."""
    return tuple(_MAP.findall(text))


def forwards_digest(text: str) -> str:
    """The digest that the table's text, or the kernel's listing of it, carries; empty if none."""
    _, found, rest = text.partition(f'comment "{COMMENT_PREFIX}')
    return rest.partition('"')[0] if found else ""


def render_forwards_removal() -> str:
    """The text that removes the table, whether it is there or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _body(cluster: str, forwards: Sequence[Forward]) -> Iterator[str]:
    rules = []
    for version in (4, 6):
        family = "ip" if version == 4 else "ip6"
        for count, elements in sorted(_elements(forwards, version).items()):
            name = f"forward{version}_{count}"
            key = f"numgen inc mod {count} . meta l4proto . th dport"
            yield f"\tmap {name} {{"
            yield f"\t\ttypeof {key} : {family} daddr . th dport"
            yield "\t\tcounter"
            joined = ",\n\t\t\t".join(elements)
            yield f"\t\telements = {{ {joined} }}"
            yield "\t}"
            rules.append(f"meta nfproto ipv{version} dnat {family} to {key} map @{name}")
    yield from _counting(forwards)
    yield "\tchain forward_prerouting {"
    yield "\t\ttype nat hook prerouting priority dstnat; policy accept;"
    yield f'\t\tiifname != "{cluster}" accept'
    yield "\t\tfib daddr type != local accept"
    yield "\t\tmeta l4proto != { tcp, udp } accept"
    for rule in rules:
        yield f"\t\t{rule}"
    yield "\t}"


def _counting(forwards: Sequence[Forward]) -> Iterator[str]:
    """The sets that count packets, and the chain that looks each one up."""
    elements = ", ".join(f"{one.protocol} . {one.port}" for one in forwards if one.addresses)
    if not elements:
        return
    for direction in DIRECTIONS:
        yield f"\tset {direction} {{"
        yield "\t\ttype inet_proto . inet_service"
        yield "\t\tcounter"
        yield f"\t\telements = {{ {elements} }}"
        yield "\t}"
    yield "\tchain count_forward {"
    yield "\t\ttype filter hook forward priority filter - 1; policy accept;"
    for way, direction in zip(("original", "reply"), DIRECTIONS, strict=True):
        yield (
            f"\t\tct direction {way} ct status dnat meta l4proto {{ tcp, udp }} "
            f"meta l4proto . ct original proto-dst @{direction}"
        )
    yield "\t}"


def _elements(forwards: Sequence[Forward], version: int) -> dict[int, list[str]]:
    """Map elements by how many addresses their port has."""
    elements: dict[int, list[str]] = defaultdict(list)
    for one in forwards:
        addresses = one.of(version)
        elements[len(addresses)] += (
            f"{index} . {one.protocol} . {one.port} : {address} . {one.target_port}"
            for index, address in enumerate(addresses)
        )
    elements.pop(0, None)
    return elements


class RevokedForwards:
    """Which tracked flows a new list does not allow: their port has no line, or leads elsewhere.

    `ports`: protocol and port of the lines that are gone or changed. What the daemon carries itself
    is not translated, and none of this one's business.
    """

    def __init__(
        self,
        ports: Collection[tuple[str, int]],
        forwards: Sequence[Forward],
        *,
        local: Sequence[Address],
    ) -> None:
        self._ports = frozenset(ports)
        self._local = frozenset(local)
        self._forwards = {(str(one.protocol), one.port): one for one in forwards}

    def contradicts(self, flow: Flow) -> bool:
        """Whether a translated flow to one of these ports goes where no line leads it."""
        key = (str(flow.protocol), flow.destination_port)
        if key not in self._ports or flow.destination not in self._local:
            return False
        if flow.answers == flow.destination:
            return False
        one = self._forwards.get(key)
        return one is None or (
            flow.answers not in one.addresses or flow.answers_port != one.target_port
        )


class ForwardJudge:
    """Which tracked datagram flows lead to where no new one would: conntrack keeps them for ever.

    `local`: the pod's addresses on the cluster link. Connections over TCP are left alone.
    """

    def __init__(self, forwards: Sequence[Forward], *, local: Sequence[Address]) -> None:
        self._local = frozenset(local)
        self._udp = {one.port: one for one in forwards if one.protocol == "udp"}

    @property
    def concerned(self) -> bool:
        """Whether there is any port it could say something about."""
        return bool(self._udp)

    def contradicts(self, flow: Flow) -> bool:
        """Whether a datagram flow to one of the ports goes to an address that is not in use."""
        one = self._udp.get(flow.destination_port)
        if one is None or flow.protocol != "udp" or flow.destination not in self._local:
            return False
        addresses = one.of(flow.destination.version)
        return bool(addresses) and flow.answers not in addresses
