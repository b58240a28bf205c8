"""The vocabulary of kernel state: what is observed, and what is wanted, in the same words.

Links are named, not numbered, wherever a value may describe something that does not exist yet.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress_router.config.addresses import Address, Interface, Network

MAIN_TABLE = 254  # RT_TABLE_MAIN, rtnetlink(7)
CLUSTER_TABLE = 8686  # ours: the routes of the cluster link, for answers and for the cluster itself
RULE_PRIORITY = 8686  # ours and the two behind it; before `main` (32766), behind `local` (0)
PROTOCOL = 86  # rtm_protocol, frp_protocol and ifa_proto of all we add: how a rerun knows its own
MARK = 0x2000_0000  # one high bit; Kubernetes' and the meshes' marks live in the low half
UNREACHABLE_METRIC = 0xFFFF_FFFF  # the last resort: any other default route comes before it
LOW_PORTS = "net/ipv4/ip_unprivileged_port_start"  # for both families, below /proc/sys
# Bytes and times of tracked connections, for the connection log; of this network namespace alone.
ACCOUNTING = "net/netfilter/nf_conntrack_acct"
TIMESTAMPS = "net/netfilter/nf_conntrack_timestamp"
LINK_GROUP = 86  # link group of a link that we made, and so may unmake; set as it is made


class RouteKind(enum.StrEnum):
    """The route types that matter here (ip-route(8))."""

    UNICAST = "unicast"
    UNREACHABLE = "unreachable"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network link. `inet` holds its per-link IPv4 settings by sysctl name.

    `parent_elsewhere`: the parent lies in another namespace, where `parent_index` counts.
    """

    index: int
    name: str
    kind: str | None = None
    up: bool = True
    carrier: bool = True
    mtu: int = 1500
    mac: str | None = None
    group: int = 0
    parent_index: int | None = None
    parent_elsewhere: bool = False
    macvlan_mode: str | None = None
    inet: tuple[tuple[str, int], ...] = ()

    def setting(self, name: str) -> int | None:
        """The value of an IPv4 setting such as `rp_filter`."""
        return dict(self.inet).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddress:
    """One address on one link. `ours`: carries our protocol number."""

    link: str
    interface: Interface
    ours: bool = False
    tentative: bool = field(default=False, compare=False)
    failed: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One station on a link as the kernel knows it.

    `state` in ip-neighbour(8)'s words, and `unknown` where the kernel has not asked for it yet.
    """

    address: Address
    mac: str | None
    state: str

    @property
    def silent(self) -> bool:
        """Whether it was asked for and has not answered."""
        return self.state in {"incomplete", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. `attributes`: metrics such as `(("mtu", 1450),)`, carried along unchanged."""

    destination: Network
    table: int = MAIN_TABLE
    kind: RouteKind = RouteKind.UNICAST
    gateway: Address | None = None
    link: str | None = None
    source: Address | None = None
    metric: int = 0
    scope: int = 0
    protocol: int = PROTOCOL
    onlink: bool = False
    attributes: tuple[tuple[str, int], ...] = ()

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.destination.version

    @property
    def is_default(self) -> bool:
        """Whether it matches every address."""
        return self.destination.prefixlen == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy rule; ours all look up the cluster table."""

    version: int
    priority: int = RULE_PRIORITY
    table: int = CLUSTER_TABLE
    mark: int | None = None
    destination: Network | None = None
    source: Network | None = None
    destination_port: int | None = None
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The nftables table as observed.

    `digest`: of the ruleset text that was loaded. `intact`: nobody changed it since. `text`: the
    kernel's own listing, seal and all, which can be loaded again as it is.
    """

    ours: bool
    digest: str = ""
    intact: bool = False
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything of one network namespace that decides what is to be done."""

    links: tuple[Link, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    table: Table | None = None
    sysctls: tuple[tuple[str, str], ...] = ()
    nameservers: tuple[Address, ...] = ()
    sctp: bool = True

    def link(self, name: str | None) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def addresses_on(self, name: str) -> tuple[LinkAddress, ...]:
        """All addresses of one link."""
        return tuple(address for address in self.addresses if address.link == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLink:
    """A macvlan to be made on `parent` in the namespace `netns` (None: the pod's own)."""

    name: str
    parent: str
    netns: str | None
    mode: str
    mtu: int
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One IPv4 setting of one link, by its sysctl name, such as `rp_filter`."""

    link: str
    name: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """One value under /proc/sys that rtnetlink cannot set, with what needs it in words."""

    path: str
    value: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The state that init brings about and the redirect daemon keeps.

    `mtu` and `mac` None: as the link has them. `addresses` are those of the egress link that must
    be there; others on it stay. `routes` are all we own, and every default route of the main table.
    """

    cluster: str
    egress: str
    create: NewLink | None
    mtu: int | None
    mac: str | None
    settings: tuple[Setting, ...]
    sysctls: tuple[Sysctl, ...]
    addresses: tuple[LinkAddress, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    table: str
    takeover: bool = False
