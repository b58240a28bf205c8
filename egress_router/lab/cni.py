"""How each network plugin wires a pod's `eth0` to its node, as iproute2 batch lines (pure).

The node's end of the cable is called `to-pod` in every variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.spec import Cni

if TYPE_CHECKING:
    from collections.abc import Callable

CALICO_GATEWAY_V4 = "169.254.1.1"
CALICO_NODE_MAC = "ee:ee:ee:ee:ee:ee"  # what Calico gives every host end, so that pods may move
CALICO_GATEWAY_V6 = "fe80::ecee:eeff:feee:eeee"  # the link-local address of that MAC
POD_LINK_LOCAL = "fe80::5"
CILIUM_ROUTE_MTU = 1450  # room for VXLAN below a 1500-byte link


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Batch lines for both ends of the cable, and sysctls of the node that need the link."""

    pod: tuple[str, ...]
    node: tuple[str, ...]
    node_sysctls: tuple[tuple[str, str], ...] = ()


def desired_wiring(cni: Cni, version: int) -> Wiring:
    """The wiring of one plugin for IP version 4 or 6."""
    return _WIRINGS[cni](version)


def added(address: object, length: int, link: str) -> str:
    """The batch line that adds an address; IPv6 skips duplicate detection, nobody else is here."""
    trust = " nodad" if ":" in str(address) else ""
    return f"addr add {address}/{length} dev {link}{trust}"


def _bridge(version: int) -> Wiring:
    pod, gateway = ADDRESSES.pod.of(version), ADDRESSES.pod_gateway.of(version)
    length = ADDRESSES.pod_network.of(version).prefixlen
    return Wiring(
        pod=(added(pod, length, "eth0"), f"route add default via {gateway} dev eth0"),
        node=(added(gateway, length, "to-pod"),),
    )


def _calico(version: int) -> Wiring:
    pod = ADDRESSES.pod.of(version)
    if version == 6:
        return Wiring(
            pod=(added(pod, 128, "eth0"), f"route add default via {CALICO_GATEWAY_V6} dev eth0"),
            node=(
                f"link set to-pod address {CALICO_NODE_MAC}",
                added(CALICO_GATEWAY_V6, 64, "to-pod"),
                f"route add {pod}/128 dev to-pod",
            ),
        )
    return Wiring(
        pod=(
            added(pod, 32, "eth0"),
            f"route add {CALICO_GATEWAY_V4} dev eth0 scope link",
            f"route add default via {CALICO_GATEWAY_V4} dev eth0",
        ),
        node=(f"route add {pod}/32 dev to-pod scope link",),
        # The answer of a proxy is delayed by up to 0.8 s unless told otherwise.
        node_sysctls=(
            ("net.ipv4.conf.to-pod.proxy_arp", "1"),
            ("net.ipv4.neigh.to-pod.proxy_delay", "0"),
        ),
    )


def _cilium(version: int) -> Wiring:
    pod, gateway = ADDRESSES.pod.of(version), ADDRESSES.pod_gateway.of(version)
    scope = " scope link" if version == 4 else ""
    return Wiring(
        pod=(
            added(pod, pod.max_prefixlen, "eth0"),
            f"route add {gateway} dev eth0{scope}",
            f"route add default via {gateway} dev eth0 mtu {CILIUM_ROUTE_MTU}",
        ),
        node=(
            added(gateway, gateway.max_prefixlen, "to-pod"),
            f"route add {pod} dev to-pod{scope}",
        ),
    )


def _ovn(version: int) -> Wiring:
    pod, gateway = ADDRESSES.pod.of(version), ADDRESSES.pod_gateway.of(version)
    length = 23 if version == 4 else 64
    cluster = (ADDRESSES.cluster_network, ADDRESSES.service_network, ADDRESSES.join_network)
    return Wiring(
        pod=(
            added(pod, length, "eth0"),
            *(f"route add {network.of(version)} via {gateway} dev eth0" for network in cluster),
            f"route add default via {gateway} dev eth0",
        ),
        node=(added(gateway, length, "to-pod"),),
    )


_WIRINGS: dict[Cni, Callable[[int], Wiring]] = {
    Cni.BRIDGE: _bridge,
    Cni.CALICO: _calico,
    Cni.CILIUM: _cilium,
    Cni.OVN: _ovn,
}
