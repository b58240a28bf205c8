"""Routers worth looking at: an environment, and the pod that it is set up in.

`{node}` in a text stands for the path of the node's network namespace.
"""

from dataclasses import dataclass

from egress_router.config.init import InitConfig
from egress_router.plan.state import Observed
from model import worlds
from model.environments import (
    DUAL,
    GATEWAY_6,
    PLAIN,
    SERVER,
    SERVER_6,
    SOURCE,
    SOURCE_6,
    configure,
)

V6 = {
    "EGRESS_SOURCE": SOURCE_6,
    "EGRESS_GATEWAY": GATEWAY_6,
    "EGRESS_DESTINATION": f"443 tcp {SERVER_6}",
}
CREATE = {"EGRESS_PARENT_NETNS": "{node}", "EGRESS_PARENT": "uplink"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`environment` is laid over the plain one. `has_node`: the link is made on the node's NIC."""

    world: Observed
    environment: dict[str, str]
    has_node: bool = False

    def configure(self, node: str = "/proc/1/ns/net", **changes: str) -> InitConfig:
        """The configuration, with some variables changed."""
        merged = PLAIN | self.environment | changes
        return configure(**{name: text.replace("{node}", node) for name, text in merged.items()})


def _of(world: Observed, *, has_node: bool = False, **environment: str) -> Scenario:
    return Scenario(world=world, environment=environment, has_node=has_node)


SCENARIOS: dict[str, Scenario] = {
    "single-port": _of(worlds.BRIDGE, EGRESS_DESTINATION=f"80 tcp {SERVER}"),
    "port-to-port": _of(worlds.BRIDGE, EGRESS_DESTINATION=f"8080 tcp {SERVER} 80\n53 udp {SERVER}"),
    "range": _of(worlds.BRIDGE, EGRESS_DESTINATION=f"5000-5010 tcp {SERVER}\n6000 tcp {SERVER}"),
    "fallback": _of(worlds.BRIDGE, EGRESS_DESTINATION=f"80 tcp {SERVER}\n203.0.113.27"),
    "dual-stack": _of(worlds.DUAL_STACK, **DUAL),
    "ipv6-only": _of(worlds.IPV6_ONLY, **V6),
    "http-proxy": _of(worlds.BRIDGE, EGRESS_ROUTER_MODE="http-proxy"),
    "admin-port": _of(
        worlds.BRIDGE,
        EGRESS_ADMIN_PORT="9099",
        EGRESS_CLUSTER_CIDRS="172.30.0.0/16",
        KUBERNETES_SERVICE_HOST="172.30.0.1",
    ),
    "calico": _of(worlds.CALICO),
    "cilium-mtu": _of(worlds.CILIUM),
    "ovn": _of(worlds.OVN),
    "multus": _of(worlds.MULTUS, **DUAL),
    "host-address": _of(worlds.BRIDGE, EGRESS_SOURCE=SOURCE),
    "new-link": _of(worlds.BARE, has_node=True, **CREATE),
}
