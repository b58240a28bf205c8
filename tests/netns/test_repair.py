"""With NET_ADMIN the redirect daemon puts back whatever drifts, exactly as it was."""

import time
from collections.abc import Callable

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.process import POLL_S
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.state import observe_state
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

REPAIR_S = 20.0  # on a busy machine; half a second is usual
TABLE = "inet egress_router"
OTHER_HOP = ADDRESSES.outsider.v4
DRIFTS = {
    "table deleted": f"nft delete table {TABLE}",
    "ruleset flushed": "nft flush ruleset",
    "table flushed": f"nft flush table {TABLE}",
    "map element added": (
        f"nft add element {TABLE} redirect4 {{ tcp . 9999 : 203.0.113.99 . 99 }}"
    ),
    "map element removed": f"nft delete element {TABLE} redirect6 {{ tcp . 80 }}",
    "set element added": f"nft add element {TABLE} cluster4 {{ 203.0.113.0/24 }}",
    "chain flushed": f"nft flush chain {TABLE} guard_forward",
    "rule added": f"nft insert rule {TABLE} guard_input accept",
    "route deleted": "ip route del default",
    "IPv6 route deleted": "ip -6 route del default dev macvlan0",
    "unreachable route deleted": "ip route del unreachable default metric 4294967295",
    "gateway route deleted": f"ip route del {ADDRESSES.gateway.v4}/32",
    "cluster route deleted": "ip route del default table 8686",
    "default route added": f"ip route add default via {OTHER_HOP} dev macvlan0 metric 50",
    "rule deleted": "ip rule del priority 8686",
    "IPv6 rule deleted": "ip -6 rule del priority 8688",
    "address removed": f"ip addr del {ADDRESSES.source.v4}/24 dev macvlan0",
    "IPv6 address removed": f"ip addr del {ADDRESSES.source.v6}/64 dev macvlan0",
    "link down": "ip link set macvlan0 down",
    "rp_filter changed": "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
    "forwarding changed": "sysctl -qw net.ipv4.conf.macvlan0.forwarding=0",
    "arp_ignore changed": "sysctl -qw net.ipv4.conf.macvlan0.arp_ignore=0",
}


@pytest.fixture(scope="module", params=["told", "untold"])
def repaired(request: pytest.FixtureRequest, module_lab: MakeLab) -> tuple[Lab, str]:
    """A pod with a privileged daemon, told init's variables or not; and its state when sound."""
    world = module_lab(pod_sysctls=(("net.ipv6.conf.default.accept_dad", "0"),))
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    environment = router_environment(world.spec, EGRESS_CONFLICT="takeover")
    world.router(("init",), environment)
    told = environment if request.param == "told" else {}
    daemon = world.start_router(("redirect",), {**told, "EGRESS_WATCH_SECONDS": "0.5"})
    wait_until_ready(world, daemon)
    return world, observe_state(world)


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_repaired(repaired: tuple[Lab, str], drift: str) -> None:
    """One thing that drifted is put back, logged, and the pod is as it was to the last line."""
    world, sound = repaired
    daemon = world.process("redirect")
    lines = daemon.output().count("drift_repaired")
    world.run("pod", DRIFTS[drift].split())
    deadline = time.monotonic() + REPAIR_S
    while daemon.output().count("drift_repaired") == lines:
        assert time.monotonic() < deadline, daemon.tail()
        time.sleep(POLL_S)
    while (now := observe_state(world)) != sound and time.monotonic() < deadline:
        time.sleep(POLL_S)
    assert now == sound
    assert '"repaired_by":"this daemon"' in daemon.output()
    assert "repair_failed" not in daemon.output()
    for version in (4, 6):
        seen = world.ask("client", "tcp", ADDRESSES.pod.of(version), 80, timeout=5)
        assert isinstance(seen, Answer), seen
        assert seen.source == ADDRESSES.source.of(version)
