"""A lab's world as data: sysctls, then one iproute2 batch per namespace (pure).

    client ── node ── pod ·· macvlan ·· ens4 ── lan ── gw ── partner
               └─ dns                            ├─ outsider
                                                 └─ twin (a pod of another node)

1. Links are made from `node`, `lan` and `gw`, with the far end put straight into its namespace;
   steps run in order, so a host configures its links only after they exist.
2. Sysctls come before links: `default` is copied into every link that appears later.
3. The gateway knows nothing of the cluster networks: a packet with a wrong source reaches the
   partner and is seen there, but is never answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.lab.addresses import ADDRESSES, Networks, Pair
from egress_router.lab.cni import POD_LINK_LOCAL, added, desired_wiring
from egress_router.lab.spec import Egress, Host, LabSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Sysctls = tuple[tuple[str, str], ...]
FORWARDING: tuple[Host, ...] = ("node", "gw")
PODS: tuple[Host, ...] = ("pod", "twin")
OUTSIDE_MTU = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines for one `ip -n NAMESPACE -batch`, then sysctls that need the links they made."""

    host: Host
    lines: tuple[str, ...]
    sysctls: Sysctls = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything needed to build a lab, in the order of building."""

    sysctls: Mapping[Host, Sysctls]
    batches: tuple[Batch, ...]
    resolv_conf: str
    hosts: str


def desired_world(spec: LabSpec, namespaces: Mapping[Host, str]) -> World:
    """The world for a spec; `namespaces` names the namespace of each host."""
    return World(
        sysctls={host: desired_sysctls(spec, host) for host in spec.hosts},
        batches=(
            Batch(host="node", lines=tuple(_cables_of_node(spec, namespaces))),
            Batch(host="lan", lines=tuple(_lan(spec, namespaces))),
            Batch(host="gw", lines=tuple(_gateway(spec, namespaces))),
            _node(spec),
            Batch(host="client", lines=tuple(_client(spec))),
            Batch(host="dns", lines=tuple(_dns(spec))),
            Batch(host="outsider", lines=tuple(_outsider(spec))),
            Batch(host="partner", lines=tuple(_partner(spec))),
            Batch(host="pod", lines=tuple(_pod(spec))),
            *([_twin(spec)] if spec.twin else []),
        ),
        resolv_conf=_resolv_conf(spec),
        hosts=_hosts(spec),
    )


def desired_sysctls(spec: LabSpec, host: Host) -> Sysctls:
    """What a namespace is told before it has links; never inherited from the machine."""
    forwarding = "1" if host in FORWARDING else "0"
    strict = "1" if host in PODS and spec.strict_rp_filter else "0"
    common = (
        ("net.ipv4.ip_forward", forwarding),
        ("net.ipv6.conf.all.forwarding", forwarding),
        ("net.ipv4.conf.all.rp_filter", strict),
        ("net.ipv4.conf.default.rp_filter", strict),
        ("net.ipv6.conf.all.disable_ipv6", "0"),
        ("net.ipv6.conf.default.disable_ipv6", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
    )
    if host in PODS:
        return common + spec.pod_sysctls
    # Link-local addresses are usable at once. The pod keeps duplicate detection: init relies on it.
    return (*common, ("net.ipv6.conf.default.accept_dad", "0"))


def _addresses(spec: LabSpec, pair: Pair, network: Networks, link: str) -> Iterator[str]:
    for version in spec.family.versions:
        yield added(pair.of(version), network.of(version).prefixlen, link)


def _defaults(spec: LabSpec, via: Pair, link: str, suffix: str = "") -> Iterator[str]:
    for version in spec.family.versions:
        yield f"route add default via {via.of(version)} dev {link}{suffix}"


def _cables_of_node(spec: LabSpec, namespaces: Mapping[Host, str]) -> Iterator[str]:
    yield "link set lo up"
    cables: tuple[tuple[str, Host, str, int], ...] = (
        ("to-client", "client", "eth0", spec.cluster_mtu),
        ("to-pod", "pod", "eth0", spec.cluster_mtu),
        ("to-dns", "dns", "eth0", OUTSIDE_MTU),
        ("ens4", "lan", "node", OUTSIDE_MTU),
        *((("to-twin", "twin", "eth0", spec.cluster_mtu),) if spec.twin else ()),
    )
    for link, far, name, mtu in cables:
        peer = f"peer name {name} mtu {mtu} netns {namespaces[far]}"
        yield f"link add {link} mtu {mtu} type veth {peer}"
        yield f"link set {link} up"
    if spec.egress is Egress.PARENT:
        return
    mode = spec.macvlan_mode or ("bridge" if spec.egress is Egress.MULTUS else "private")
    link = spec.egress_link
    yield f"link add {link} link ens4 type macvlan mode {mode}"
    yield f"link set {link} netns {namespaces['pod']}"


def _lan(spec: LabSpec, namespaces: Mapping[Host, str]) -> Iterator[str]:
    yield "link set lo up"
    yield "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    yield "link set br0 up"
    stations: tuple[Host, ...] = ("gw", "outsider")
    for far in stations:
        yield f"link add {far} type veth peer name eth0 netns {namespaces[far]}"
    if spec.twin:
        # Two private macvlans of one parent never hear each other; a port of its own does.
        yield f"link add twin type veth peer name macvlan0 netns {namespaces['twin']}"
    for port in ("node", *stations, *(("twin",) if spec.twin else ())):
        yield f"link set {port} master br0 up"


def _gateway(spec: LabSpec, namespaces: Mapping[Host, str]) -> Iterator[str]:
    yield "link set lo up"
    yield f"link add to-partner type veth peer name eth0 netns {namespaces['partner']}"
    yield "link set eth0 up"
    yield "link set to-partner up"
    yield from _addresses(spec, ADDRESSES.gateway, ADDRESSES.lan_network, "eth0")
    yield from _addresses(spec, ADDRESSES.partner_gateway, ADDRESSES.partner_network, "to-partner")


def _node(spec: LabSpec) -> Batch:
    wirings = tuple(desired_wiring(spec.cni, version) for version in spec.family.versions)
    lines = (
        *_addresses(spec, ADDRESSES.client_gateway, ADDRESSES.client_network, "to-client"),
        *_addresses(spec, ADDRESSES.dns_gateway, ADDRESSES.service_network, "to-dns"),
        *_addresses(spec, ADDRESSES.node, ADDRESSES.lan_network, "ens4"),
        *_defaults(spec, ADDRESSES.gateway, "ens4"),
        *(line for wiring in wirings for line in wiring.node),
    )
    sysctls = tuple(sysctl for wiring in wirings for sysctl in wiring.node_sysctls)
    return Batch(host="node", lines=lines, sysctls=sysctls)


def _client(spec: LabSpec) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 up"
    yield from _addresses(spec, ADDRESSES.client, ADDRESSES.client_network, "eth0")
    yield from _defaults(spec, ADDRESSES.client_gateway, "eth0")


def _dns(spec: LabSpec) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 up"
    yield from _addresses(spec, ADDRESSES.dns, ADDRESSES.service_network, "eth0")
    yield from _defaults(spec, ADDRESSES.dns_gateway, "eth0")


def _outsider(spec: LabSpec) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 up"
    yield from _addresses(spec, ADDRESSES.outsider, ADDRESSES.lan_network, "eth0")
    yield from _defaults(spec, ADDRESSES.gateway, "eth0")


def _partner(spec: LabSpec) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 up"
    for pair in ADDRESSES.partners:
        yield from _addresses(spec, pair, ADDRESSES.partner_network, "eth0")
    yield from _defaults(spec, ADDRESSES.partner_gateway, "eth0")


def _pod(spec: LabSpec) -> Iterator[str]:
    yield "link set lo up"
    # A network plugin hands a pod over with its link-local address settled.
    yield "link set eth0 addrgenmode none"
    yield "link set eth0 up"
    yield added(POD_LINK_LOCAL, 64, "eth0")
    for version in spec.family.versions:
        yield from desired_wiring(spec.cni, version).pod
    if spec.egress is Egress.MULTUS:
        yield "link set net1 up"
        yield from _addresses(spec, ADDRESSES.multus, ADDRESSES.lan_network, "net1")
        yield from _addresses(spec, ADDRESSES.source, ADDRESSES.lan_network, "net1")
        if (metric := spec.multus_default_metric) is not None:
            yield from _defaults(spec, ADDRESSES.gateway, "net1", f" metric {metric}")


def _twin(spec: LabSpec) -> Batch:
    lines = ["link set lo up", "link set eth0 up"]
    for version in spec.family.versions:
        gateway = ADDRESSES.pod_gateway.of(version)
        lines.append(added(ADDRESSES.twin.of(version), gateway.max_prefixlen, "eth0"))
        lines.append(f"route add {gateway} dev eth0")
        lines.append(f"route add default via {gateway} dev eth0")
    return Batch(host="twin", lines=tuple(lines))


def _resolv_conf(spec: LabSpec) -> str:
    servers = "".join(
        f"nameserver {ADDRESSES.dns.of(version)}\n" for version in spec.family.versions
    )
    search = "search default.svc.cluster.local svc.cluster.local cluster.local\n"
    return f"{search}{servers}options ndots:5\n"


def _hosts(spec: LabSpec) -> str:
    own = "".join(
        f"{ADDRESSES.pod.of(version)}\tegress-router\n" for version in spec.family.versions
    )
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{own}{spec.pod_hosts}"
