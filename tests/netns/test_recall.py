"""A namespace that is looked at again: as with fresh eyes, and decoded only after changes."""

from collections.abc import Callable
from contextlib import closing

import pytest

from egress_router.kernel.netlink import Netlink
from egress_router.kernel.netns import entered
from egress_router.kernel.recall import Recall
from egress_router.lab.world import Lab
from egress_router.plan.state import Observed

pytestmark = pytest.mark.netns

CHANGES = (
    "ip link set eth0 mtu 1400",
    "ip link add spare type veth peer name peer",
    "ip address add 198.51.100.7/24 dev spare",
    "ip link set peer up",
    "ip link set spare up",
    "ip -6 address add 2001:db8::7/64 dev spare nodad",
    "ip route add 203.0.113.0/24 via 198.51.100.1 dev spare",
    "ip route change 203.0.113.0/24 via 198.51.100.2 dev spare",
    "ip -6 route add 2001:db8:1::/48 via 2001:db8::1 dev spare",
    "ip route add unreachable default metric 9000",
    "ip rule add priority 77 from 198.51.100.7 lookup 77",
    "ip -6 rule add priority 78 fwmark 0x10 lookup 78",
    "sysctl -qw net.ipv4.conf.spare.rp_filter=1",
    "sysctl -qw net.ipv6.conf.spare.disable_ipv6=1",
    "ip route del unreachable default metric 9000",
    "ip rule del priority 77",
    "ip link set spare name other",
    "ip link del other",
)


COUNTED = ("ping", "-qc1", "-w2", "127.0.0.1")  # changes the counters of a link


class Counting(Netlink):
    """Counts how often it decodes."""

    decoded = 0

    def observe_routing(self) -> Observed:
        self.decoded += 1
        return super().observe_routing()


def test_what_is_recalled_is_what_is_there(lab: Callable[..., Lab]) -> None:
    """After every kind of change it is what a fresh look finds; without one, nothing is decoded."""
    world = lab()
    with (
        entered(f"/run/netns/{world.namespace('pod')}"),
        Counting() as netlink,
        closing(Recall(netlink)) as recall,
    ):
        assert recall.observe() == netlink.observe()
        for change in CHANGES:
            world.run("pod", change.split())
            before, netlink.decoded = recall.observe(), 0
            world.run("pod", COUNTED)
            with Netlink() as fresh:
                assert recall.observe() == before == fresh.observe(), change
            assert netlink.decoded == 0, change


def test_where_there_is_no_raw_look_everything_is_decoded(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that does not answer, or in the middle of changes, costs time and no truth."""
    world = lab()
    with (
        entered(f"/run/netns/{world.namespace('pod')}"),
        Counting() as netlink,
        closing(Recall(netlink)) as recall,
    ):
        monkeypatch.setattr(recall, "_read", lambda: None)
        first = recall.observe()
        assert recall.observe() == first
        assert netlink.decoded == 2
