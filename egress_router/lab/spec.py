"""What a test asks of a lab: which cluster network, which families, how the egress link arrives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Host = Literal["client", "node", "pod", "lan", "gw", "outsider", "partner", "dns", "twin"]
HOSTS: tuple[Host, ...] = ("client", "node", "pod", "lan", "gw", "outsider", "partner", "dns")


class Cni(StrEnum):
    """How the pod's `eth0` is configured, by the name of the network plugin that does it so."""

    BRIDGE = "bridge"  # a subnet per node, the node in it
    CALICO = "calico"  # a single address, a gateway that exists by proxy ARP only
    CILIUM = "cilium"  # a single address, a link-scope gateway, the route carries the MTU
    OVN = "ovn"  # OVN-Kubernetes: routes for the cluster networks beside the default


class Family(StrEnum):
    """Which address families the whole world has."""

    V4 = "v4"
    V6 = "v6"
    DUAL = "dual"

    @property
    def versions(self) -> tuple[int, ...]:
        """IP versions in the order in which a pod lists its addresses."""
        return {Family.V4: (4,), Family.V6: (6,), Family.DUAL: (4, 6)}[self]


class Egress(StrEnum):
    """Who makes the egress link."""

    HANDED = "handed"  # `macvlan0` lies in the pod, down and bare: the OpenShift SDN annotation
    PARENT = "parent"  # nobody: init makes it from the node's `ens4`
    MULTUS = "multus"  # `net1` lies in the pod, up, with addresses on it already


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """One world.

    `macvlan_mode` None means what the maker of the link would choose: `private` for the
    annotation, `bridge` for Multus. `multus_default_metric` adds a second default route through
    the outside gateway, with that metric. `pod_sysctls` are set before the pod has any link:
    `(("net.ipv6.conf.all.forwarding", "1"),)`. `pod_hosts` is text for the pod's `/etc/hosts`.
    `twin` adds a second router pod, on another node of the same networks.
    """

    cni: Cni = Cni.BRIDGE
    family: Family = Family.DUAL
    egress: Egress = Egress.HANDED
    macvlan_mode: str | None = None
    multus_default_metric: int | None = None
    strict_rp_filter: bool = False
    cluster_mtu: int = 1500
    pod_sysctls: tuple[tuple[str, str], ...] = ()
    pod_hosts: str = ""
    twin: bool = False

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts of this world."""
        return (*HOSTS, "twin") if self.twin else HOSTS

    @property
    def egress_link(self) -> str:
        """The name the egress link has in the pod once it is there."""
        return "net1" if self.egress is Egress.MULTUS else "macvlan0"
