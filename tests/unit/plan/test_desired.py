import re
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from egress_router.errors import ConfigurationError, KernelError
from egress_router.plan.desired import desired_state
from egress_router.plan.state import (
    ACCOUNTING,
    CLUSTER_TABLE,
    LINK_GROUP,
    MAIN_TABLE,
    MARK,
    TIMESTAMPS,
    Desired,
    Observed,
    RouteKind,
    Rule,
    Table,
)
from model import worlds
from model.environments import DUAL, SERVER, SOURCE, configure
from model.kernel import FakeKernel
from model.scenarios import CREATE, V6
from model.worlds import BARE, BRIDGE, DUAL_STACK, ETH0, LOOPBACK, MACVLAN0, NODE, address, route


def wanted(world: Observed, parents: Observed | None = None, **changes: str | None) -> Desired:
    """The wanted state of a pod."""
    return desired_state(configure(**changes), FakeKernel(world).observe(), parents)


def refusal(world: Observed, parents: Observed | None = None, **changes: str | None) -> str:
    """Why there is none."""
    with pytest.raises((ConfigurationError, KernelError)) as caught:
        wanted(world, parents, **changes)
    return str(caught.value)


SOURCE_ON_ETH0 = replace(BRIDGE, addresses=(*BRIDGE.addresses, address("eth0", f"{SOURCE}/32")))
FOREIGN_TABLE = replace(BRIDGE, table=Table(ours=False))
SMALL_MTU = replace(DUAL_STACK, links=(LOOPBACK, ETH0, replace(MACVLAN0, mtu=1279)))
OWN_LINK = replace(MACVLAN0, group=LINK_GROUP, up=True, parent_elsewhere=True)


@pytest.mark.parametrize(
    ("world", "changes", "message"),
    [
        pytest.param(
            SOURCE_ON_ETH0,
            {},
            f"EGRESS_SOURCE unspecified or invalid: '{SOURCE}' is already on eth0",
            id="B1-3-source-on-eth0",
        ),
        pytest.param(FOREIGN_TABLE, {}, "a table `inet egress_router` is there", id="table"),
        pytest.param(SMALL_MTU, DUAL, "EGRESS_MTU: link macvlan0 has MTU 1279", id="B7-95-mtu"),
        pytest.param(
            replace(BRIDGE, sctp=False),
            {"EGRESS_DESTINATION": f"80 tcp {SERVER}\n9 sctp {SERVER}"},
            f"EGRESS_DESTINATION line 2: EGRESS_DESTINATION value '9 sctp {SERVER}' is invalid: "
            "this kernel does not track sctp",
            id="B1-9-sctp",
        ),
        pytest.param(
            replace(BRIDGE, routes=(route("default", None, None, kind=RouteKind.OTHER),)),
            {},
            "give the cluster link one plain default route",
            id="multipath-default",
        ),
        pytest.param(
            BRIDGE,
            {"EGRESS_CLUSTER_INTERFACE": "macvlan0"},
            "macvlan0 is the cluster link too; attach a second link",
            id="egress-is-cluster",
        ),
        pytest.param(
            replace(BRIDGE, links=(LOOPBACK, ETH0)),
            {"EGRESS_INTERFACE": "eth0"},
            "there is no cluster link",
            id="egress-is-the-only-link",
        ),
        pytest.param(
            BRIDGE,
            {"EGRESS_MACVLAN_MODE": "bridge"},
            "link macvlan0 is not the one asked for: macvlan mode is private",
            id="B7-91-wrong-mode",
        ),
        pytest.param(
            replace(BRIDGE, links=(LOOPBACK, ETH0, replace(MACVLAN0, kind="bridge"))),
            {},
            "it is a bridge link",
            id="B7-91-wrong-kind",
        ),
        pytest.param(Observed(links=(LOOPBACK,)), {}, "there is no cluster link", id="B7-95-eth0"),
        pytest.param(BARE, {}, "there is no egress link", id="no-egress"),
    ],
)
def test_facts_that_do_not_allow_it(world: Observed, changes: dict[str, str], message: str) -> None:
    """Where the pod's facts do not allow what was asked, the reason is said."""
    assert message in refusal(world, **changes)


def test_source_that_is_there_already() -> None:
    """An address that Multus put on the egress link keeps its length, unless one was written."""
    world = replace(BRIDGE, addresses=(*BRIDGE.addresses, address("macvlan0", f"{SOURCE}/24")))
    for asked, length in ((SOURCE, 24), (f"{SOURCE}/24", 24), (f"{SOURCE}/25", 25)):
        (held,) = wanted(world, EGRESS_SOURCE=asked).addresses
        assert held.interface.network.prefixlen == length
        assert held.ours is (length == 25)


def test_own_address_has_the_length_of_now() -> None:
    """An address of an earlier run is no reason to keep its length."""
    ours = address("macvlan0", f"{SOURCE}/24", ours=True)
    world = replace(BRIDGE, addresses=(*BRIDGE.addresses, ours))
    (held,) = wanted(world, EGRESS_SOURCE=SOURCE).addresses
    assert str(held.interface) == f"{SOURCE}/32"


# What the connection log needs where the kernel carries connections.
LOGGED = {f"{path}=1" for path in (ACCOUNTING, TIMESTAMPS)}


@pytest.mark.parametrize(
    ("changes", "settings", "sysctls"),
    [
        ({}, {"rp_filter", "forwarding"}, LOGGED),
        ({"EGRESS_ROUTER_MODE": "http-proxy"}, {"rp_filter"}, set()),
        (
            DUAL,
            {"rp_filter", "forwarding"},
            {"macvlan0/disable_ipv6=0", "all/forwarding=1", *LOGGED},
        ),
        (V6, set(), {"macvlan0/disable_ipv6=0", "all/forwarding=1", *LOGGED}),
        (
            V6 | {"EGRESS_ROUTER_MODE": "dns-proxy"},
            set(),
            {"macvlan0/disable_ipv6=0", "net/ipv4/ip_unprivileged_port_start=0", *LOGGED},
        ),
    ],
    ids=["redirect", "proxy", "dual-stack", "ipv6", "ipv6-proxy"],
)
def test_settings(changes: dict[str, str], settings: set[str], sysctls: set[str]) -> None:
    """Only what the mode and the families need is set, on the two links alone."""
    state = wanted(DUAL_STACK, **changes)
    both = {s.name for s in state.settings if s.link == "eth0"}
    assert both == settings
    assert {s.name for s in state.settings if s.link == "macvlan0"} >= settings
    assert {s.link for s in state.settings} <= {"eth0", "macvlan0"}
    found = {f"{s.path.removeprefix('net/ipv6/conf/')}={s.value}" for s in state.sysctls}
    assert found == sysctls


def test_family_without_a_source_is_closed() -> None:
    """A family in which the router has no source keeps no way out but that of the cluster."""
    state = wanted(DUAL_STACK)
    six = [r for r in state.routes if r.version == 6]
    assert [r.kind for r in six if r.table == MAIN_TABLE] == [RouteKind.UNREACHABLE]
    assert any(r.is_default and r.link == "eth0" for r in six if r.table == CLUSTER_TABLE)


def test_rules() -> None:
    """Answers, the cluster's networks, the nameservers' port and the pod's own addresses."""
    world = replace(
        DUAL_STACK, nameservers=(*map(ip_address, ("172.30.0.10", "fd00::10", "127.0.0.53")),)
    )
    state = wanted(world, EGRESS_CLUSTER_CIDRS="10.0.0.0/8", KUBERNETES_SERVICE_HOST="172.30.0.1")
    four = [rule for rule in state.rules if rule.version == 4]
    assert four == [
        Rule(version=4, priority=8686, mark=MARK),
        Rule(version=4, priority=8687, destination=ip_network("10.0.0.0/8")),
        Rule(version=4, priority=8687, destination=ip_network("172.30.0.1")),
        Rule(version=4, priority=8687, destination=ip_network("172.30.0.10"), destination_port=53),
        Rule(version=4, priority=8688, source=ip_network("10.128.0.5")),
    ]
    assert len([rule for rule in state.rules if rule.version == 6]) == 3


def test_routes_of_third_links_are_left_alone() -> None:
    """A third link keeps its networks, and loses its default route."""
    third = replace(MACVLAN0, index=4, name="net2", up=True)
    world = replace(
        BRIDGE,
        links=(*BRIDGE.links, third),
        addresses=(*BRIDGE.addresses, address("net2", "10.9.0.5/24")),
        routes=(*BRIDGE.routes, route("default", "net2", "10.9.0.1", metric=50)),
    )
    assert all(r.link != "net2" for r in wanted(world).routes)


def test_new_link() -> None:
    """Without a link to adopt one is made, with a MAC that outlives the pod."""
    state = wanted(BARE, NODE, **CREATE)
    assert state.create is not None
    assert state.create.parent == "uplink"
    assert state.mac == state.create.mac == "02:e6:c0:a8:0c:63"
    assert state.egress == "macvlan0"


def test_own_link_that_no_longer_fits_is_made_anew() -> None:
    """A link of an earlier run is remade where a foreign one would be refused."""
    world = replace(BRIDGE, links=(LOOPBACK, ETH0, replace(OWN_LINK, parent_index=5)))
    assert wanted(world, NODE, **CREATE).create is None
    remade = wanted(world, NODE, **CREATE, EGRESS_MACVLAN_MODE="bridge")
    assert remade.create is not None
    assert remade.create.mode == "bridge"


def test_takeover() -> None:
    """`takeover` is carried along for the steps to see."""
    assert wanted(BRIDGE, EGRESS_CONFLICT="takeover").takeover
    assert not wanted(BRIDGE).takeover


@pytest.mark.parametrize("name", ["BRIDGE", "DUAL_STACK", "CALICO", "CILIUM", "OVN", "MULTUS"])
def test_gateway_is_on_link_before_it_is_used(name: str) -> None:
    """Our routes come in an order that the kernel accepts, whatever the CNI."""
    config = configure()
    observed = FakeKernel(getattr(worlds, name)).observe()
    seen = [
        "gateway" if found.gateway else "link" if found.link else "barrier"
        for found in desired_state(config, observed, None).routes
    ]
    assert re.fullmatch(r"((barrier )?(link )*(gateway )*)+", " ".join(seen) + " ")
