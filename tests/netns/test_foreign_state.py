"""What others put into the pod's network stays as it is, byte for byte."""

import re
from collections.abc import Callable

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.state import observe_state
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

FOREIGN_TABLES = ("ip nat", "ip6 nat", "inet mesh", "arp filter")
TRIES = 50
FOREIGN_MARK = 0x00000105  # low bits, as Kubernetes and meshes use them
RULESET = f"""
table ip nat {{
  chain PREROUTING {{ type nat hook prerouting priority dstnat; policy accept;
    tcp dport 9 counter dnat to 203.0.113.99:9
  }}
  chain POSTROUTING {{ type nat hook postrouting priority srcnat; policy accept; counter; }}
}}
table ip6 nat {{
  chain POSTROUTING {{ type nat hook postrouting priority srcnat; policy accept; counter; }}
}}
table inet mesh {{
  set peers {{ type ipv4_addr; flags interval; elements = {{ 10.1.0.0/16, 192.0.2.1 }}; }}
  counter marked {{ }}
  chain prerouting {{ type filter hook prerouting priority mangle - 10;
    ct state new ct mark set {FOREIGN_MARK}
    ct direction reply meta mark set ct mark & 0x0fffffff
  }}
  chain output {{ type route hook output priority mangle - 10; ip daddr @peers accept; }}
  chain postrouting {{ type filter hook postrouting priority mangle;
    oifname eth0 ct direction reply meta mark & 0x0fffffff == {FOREIGN_MARK} counter name marked
  }}
}}
table arp filter {{
  chain input {{ type filter hook input priority 0; policy accept; arp operation 17 drop; }}
}}
"""
ROUTES = (
    "route add 198.51.100.0/24 via 10.128.0.1 dev eth0 proto 200",
    "route add blackhole 192.0.2.0/25",
    "route add default via 10.128.0.1 dev eth0 table 100",
    "-6 route add 2001:db8:777::/48 via fd00:10:128::1 dev eth0 metric 77",
    "rule add priority 100 fwmark 0x100/0xff00 lookup 100",
    "rule add priority 9000 from 198.51.100.7 lookup 100",
    "-6 rule add priority 101 to 2001:db8:777::/48 lookup main",
)


def environment(world: Lab) -> dict[str, str]:
    """Init's, without a probe."""
    return router_environment(world.spec, EGRESS_CONFLICT="takeover")


@pytest.fixture
def world(lab: MakeLab) -> Lab:
    """A pod with other people's tables, routes and rules in it, not yet set up."""
    world = lab()
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    world.run("pod", ("nft", RULESET))
    for line in ROUTES:
        world.run("pod", ("ip", *line.split()))
    return world


def foreign_state(world: Lab) -> dict[str, str]:
    """Everything that is not ours, as listed."""
    listed = {
        name: world.run("pod", ("nft", "-s", "list", "table", *name.split())).stdout
        for name in FOREIGN_TABLES
    }
    for family in ("-4", "-6"):
        rules = world.run("pod", ("ip", family, "rule")).stdout
        listed[f"rules {family}"] = keep(rules, lambda line: "proto 86" not in line)
        table = world.run("pod", ("ip", "-d", family, "route", "show", "table", "all")).stdout
        listed[f"routes {family}"] = keep(table, is_foreign_route)
    return listed


OTHERS = ("198.51.100.0/24", "192.0.2.0/25", "table 100", "2001:db8:777::/48")


def is_foreign_route(line: str) -> bool:
    """Whether a line of `ip route` names one of those routes, and is not our table's copy."""
    return any(words in line for words in OTHERS) and "proto 86" not in line


def keep(text: str, wanted: Callable[[str], bool]) -> str:
    """The lines that are wanted."""
    return "\n".join(line for line in text.splitlines() if wanted(line))


def test_foreign_state_survives(world: Lab) -> None:
    """Init, a rerun with other settings, and the daemon's repairs leave foreign state alone."""
    before = foreign_state(world)
    assert all(before.values())
    world.router(("init",), environment(world))
    assert foreign_state(world) == before
    changed = environment(world) | {"EGRESS_DESTINATION": "81 tcp 203.0.113.11"}
    world.router(("init",), changed)
    assert foreign_state(world) == before
    daemon = world.start_router(("redirect",), environment(world))
    wait_until_ready(world, daemon)
    daemon.wait_for_line("drift_repaired")  # its own list in place of the changed one
    said = daemon.said()
    world.run("pod", ("nft", "delete", "table", "inet", "egress_router"))
    for line in ("rule del priority 8686", "route del default", "link set macvlan0 down"):
        world.run("pod", ("ip", *line.split()))
    daemon.wait_for_line("drift_repaired", since=said)
    # The first look may have come between two of the changes.
    answers = (world.ask("client", "tcp", ADDRESSES.pod.v4, 80) for _ in range(TRIES))
    assert any(isinstance(answer, Answer) for answer in answers)
    wait_until_ready(world, daemon)
    assert foreign_state(world) == before


def test_foreign_bits_of_marks_survive(world: Lab) -> None:
    """A connection keeps the bits that others marked it with, beside the one of ours."""
    world.router(("init",), environment(world))
    assert isinstance(world.ask("client", "tcp", ADDRESSES.pod.v4, 80), Answer)
    flows = world.run(
        "pod", ("conntrack", "-L", "-p", "tcp", "-s", str(ADDRESSES.client.v4))
    ).stdout
    marks = {int(mark) for mark in re.findall(r"\bmark=([0-9]+)", flows)}
    assert marks == {0x2000_0000 | FOREIGN_MARK}
    counter = world.run("pod", ("nft", "list", "counter", "inet", "mesh", "marked")).stdout
    assert int(re.search(r"packets ([0-9]+)", counter)[1]) > 0


def test_shared_nat_table_is_not_made(lab: MakeLab) -> None:
    """In a pod without foreign tables there is ours alone afterwards, and no `ip nat`."""
    world = lab()
    world.router(("init",), environment(world))
    tables = world.run("pod", ("nft", "list", "tables")).stdout.splitlines()
    assert tables == ["table inet egress_router"]


def test_our_name_is_taken(lab: MakeLab) -> None:
    """A table of our name that is not ours is refused by name, and left as it is."""
    world = lab()
    world.run("pod", ("nft", "table inet egress_router { chain mine { tcp dport 1 drop; }; }"))
    before = observe_state(world)
    done = world.router(("init",), environment(world), check=False)
    assert done.returncode == 4
    assert "table `inet egress_router` is there that this program did not make" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert observe_state(world) == before
