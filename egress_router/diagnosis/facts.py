"""What the probes of `egress-router doctor` bring home.

A fact that could not be gathered is `Untested`, with the reason in words; never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress_router.config.addresses import Address
    from egress_router.plan.snapshot import Router
    from egress_router.plan.state import Neighbour, Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Untested:
    """Why something was not tested, and, where there is a way, how it could be."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """What a running daemon says of itself.

    `conflict`: its watch's complaint. `watches`: whether it would notice one. `forwards`: the
    kernel forwards for it.
    """

    mode: str
    ready: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused_reload: tuple[str, ...] = ()
    conflict: str | None = None
    watches: bool = False
    forwards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Who and where the router is, as far as it can be known, even where half of it is gone."""

    link: str
    cluster: str | None
    sources: tuple[Address, ...] = ()
    gateways: tuple[Address, ...] = ()

    def source(self, version: int) -> Address | None:
        """The source of a family."""
        return next((one for one in self.sources if one.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """The pod's network as the kernel shows it without privilege.

    `router`: or why none is seen. `missing`: what is wrong with its routes and rules, if anything.
    `table`: whether our nftables table is in force. `leaves`: by version, the address that a
    socket bound to nothing would have. `forwarding6`: the whole namespace's.
    """

    observed: Observed
    router: Router | str
    missing: str | None
    table: bool
    leaves: tuple[tuple[int, Address | None], ...]
    forwarding6: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Another station that answers for a source address."""

    address: Address
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProbe:
    """One gateway. `how` it answered, such as `by ARP`, or None if it did not.

    `heard`: packets the link has received at all; `others`: stations beside it that answer.
    """

    neighbour: Neighbour
    how: str | None
    heard: int
    others: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeProbe:
    """Whether a packet of the link's whole MTU came back from a gateway."""

    gateway: Address
    size_bytes: int
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NameserverProbe:
    """One nameserver, asked for `name`.

    `answer`: its code, such as NOERROR. `trouble`: why there was none. `leaves`: the address the
    query was sent from.
    """

    server: Address
    name: str
    answer: str | None
    trouble: str = ""
    took_s: float = 0.0
    leaves: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One connection: `outcome` is `connected` or the error's name, such as ECONNREFUSED."""

    address: Address
    source: Address | None
    outcome: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A destination that was asked for. `unresolved`: why its name has no address.

    `denied`: why the proxy's list would refuse it, where this pod has one.
    """

    text: str
    attempts: tuple[Attempt, ...] = ()
    unresolved: str = ""
    denied: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything at once; the tuples of probes are as long as what was there to probe."""

    place: Place
    namespace: Namespace | Untested
    daemons: tuple[Daemon, ...] = ()
    silent_daemons: tuple[str, ...] = ()
    mistyped: tuple[str, ...] = ()
    holders: tuple[Holder, ...] | Untested
    gateways: tuple[GatewayProbe | Untested, ...] = ()
    sizes: tuple[SizeProbe | Untested, ...] = ()
    nameservers: tuple[NameserverProbe | Untested, ...] = ()
    targets: tuple[Target | Untested, ...] = ()

    @property
    def modes(self) -> frozenset[str]:
        """The modes whose daemons run here."""
        return frozenset(daemon.mode for daemon in self.daemons)
