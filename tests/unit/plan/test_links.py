import ipaddress
from dataclasses import replace

import pytest

from egress_router.errors import ConfigurationError, KernelError
from egress_router.plan.links import (
    decide_cluster_link,
    decide_egress_name,
    decide_new_link,
    derive_mac,
    differences,
    is_own,
)
from egress_router.plan.state import CLUSTER_TABLE, LINK_GROUP, Link, Observed, RouteKind
from model import worlds
from model.environments import DUAL, SOURCE, configure
from model.scenarios import V6
from model.worlds import BARE, BRIDGE, ETH0, LOOPBACK, MACVLAN0, MULTUS, NET1, NODE, address, route

NET2 = replace(NET1, index=4, name="net2")
DEFAULT = route("default", "eth0", "10.128.0.1")


def pod(*links: Link, routes: tuple[worlds.Route, ...] = ()) -> Observed:
    """A pod with the loopback and some links."""
    return Observed(links=(LOOPBACK, *links), routes=routes)


@pytest.mark.parametrize(
    ("asked", "observed", "expected"),
    [
        pytest.param("net2", pod(ETH0, MACVLAN0, NET1), "net2", id="asked-absent"),
        pytest.param("net1", pod(ETH0, MACVLAN0, NET1), "net1", id="asked-present"),
        pytest.param(None, pod(ETH0, NET1, MACVLAN0), "macvlan0", id="macvlan0-before-net1"),
        pytest.param(None, pod(ETH0, NET1), "net1", id="net1"),
        pytest.param(None, pod(ETH0, NET2), "macvlan0", id="to-be-made"),
    ],
)
def test_egress_name(asked: str | None, observed: Observed, expected: str) -> None:
    """The egress link is the one asked for, macvlan0, net1, or one to be made."""
    assert decide_egress_name(configure(EGRESS_INTERFACE=asked).link, observed) == expected


@pytest.mark.parametrize(
    ("asked", "observed", "expected"),
    [
        pytest.param("net2", pod(ETH0, NET1, NET2, routes=(DEFAULT,)), "net2", id="asked"),
        pytest.param(None, pod(ETH0, NET2, routes=(DEFAULT,)), "eth0", id="default-route"),
        pytest.param(
            None,
            pod(ETH0, NET2, routes=(replace(DEFAULT, metric=100), replace(DEFAULT, link="net2"))),
            "net2",
            id="better-metric",
        ),
        pytest.param(
            None,
            pod(
                ETH0,
                NET1,
                NET2,
                routes=(replace(DEFAULT, link="net1"), replace(DEFAULT, link="net2", metric=9)),
            ),
            "net2",
            id="not-the-egress-links-own",
        ),
        pytest.param(
            None,
            pod(
                ETH0, NET2, routes=(route("default", "net2", "fd00::1"), replace(DEFAULT, metric=9))
            ),
            "eth0",
            id="ipv4-before-ipv6",
        ),
        pytest.param(
            None,
            pod(
                replace(ETH0, name="ens1"),
                NET1,
                NET2,
                routes=(
                    replace(DEFAULT, link="net1", protocol=86),
                    replace(DEFAULT, link="ens1", table=CLUSTER_TABLE),
                ),
            ),
            "ens1",
            id="rerun-by-our-table",
        ),
        pytest.param(
            None,
            pod(
                ETH0,
                NET1,
                routes=(replace(DEFAULT, link=None, gateway=None, kind=RouteKind.UNREACHABLE),),
            ),
            "eth0",
            id="only-other-link",
        ),
        pytest.param(None, pod(NET2, ETH0, NET1), "eth0", id="eth0-among-several"),
        pytest.param(None, pod(NET2, NET1), "net2", id="one-other-than-eth0"),
    ],
)
def test_cluster_link(asked: str | None, observed: Observed, expected: str) -> None:
    """The cluster link is the one asked for, that of the best default route, or the only other."""
    config = configure(EGRESS_CLUSTER_INTERFACE=asked, EGRESS_INTERFACE="net1").link
    assert decide_cluster_link(config, "net1", observed).name == expected


@pytest.mark.parametrize(
    ("asked", "observed", "error", "message"),
    [
        (
            "eth9",
            pod(ETH0, NET1),
            ConfigurationError,
            "EGRESS_CLUSTER_INTERFACE: 'eth9' is no link of this pod: expected one of eth0, net1",
        ),
        (None, pod(NET1), KernelError, "there is no cluster link; the pod needs a network"),
        (
            None,
            pod(NET1, NET2, replace(NET2, name="net3")),
            KernelError,
            "no default route tells which of net1, net2, net3 is the cluster link",
        ),
    ],
    ids=["asked-absent", "none", "no-telling"],
)
def test_no_cluster_link(
    asked: str | None, observed: Observed, error: type[Exception], message: str
) -> None:
    """Where there is no telling which link is the cluster's, the message says what to set."""
    config = configure(EGRESS_CLUSTER_INTERFACE=asked).link
    with pytest.raises(error) as caught:
        decide_cluster_link(config, "net1", observed)
    assert message in str(caught.value)


IN_POD = replace(
    BARE,
    links=(LOOPBACK, ETH0, Link(index=7, name="ens4", mtu=9000)),
    addresses=(*BARE.addresses, address("ens4", "192.168.12.7/24")),
)


@pytest.mark.parametrize(
    ("changes", "parents", "expected"),
    [
        pytest.param({"EGRESS_PARENT": "internal"}, NODE, "internal", id="asked"),
        pytest.param({}, NODE, "uplink", id="gateways-subnet"),
        pytest.param({"EGRESS_GATEWAY": "203.0.113.1"}, NODE, "uplink", id="default-route-there"),
        pytest.param({"EGRESS_PARENT_NETNS": None}, IN_POD, "ens4", id="own-namespace"),
        pytest.param(DUAL, NODE, "uplink", id="either-family"),
    ],
)
def test_parent(changes: dict[str, str | None], parents: Observed, expected: str) -> None:
    """The parent is the one asked for, the one in the gateway's subnet, or the default route's."""
    config = configure(**({"EGRESS_PARENT_NETNS": "/proc/1/ns/net"} | changes))
    new = decide_new_link(config, "macvlan0", parents, "eth0")
    assert new.parent == expected
    assert new.netns == config.link.parent_netns
    assert (new.name, new.mode) == ("macvlan0", "private")
    assert new.mtu == parents.link(expected).mtu


def test_new_link_as_asked() -> None:
    """Mode, MTU and MAC of a new link are the ones asked for."""
    config = configure(
        EGRESS_PARENT_NETNS="/x",
        EGRESS_MACVLAN_MODE="vepa",
        EGRESS_MTU="1400",
        EGRESS_MAC="02:00:00:00:00:01",
    )
    new = decide_new_link(config, "out", NODE, "eth0")
    assert (new.mode, new.mtu, new.mac) == ("vepa", 1400, "02:00:00:00:00:01")


NO_ADDRESSES = replace(NODE, addresses=(), routes=())


@pytest.mark.parametrize(
    ("changes", "parents", "error", "message"),
    [
        (
            {"EGRESS_PARENT": "ens9"},
            NODE,
            ConfigurationError,
            "EGRESS_PARENT: 'ens9' is no link there: expected one of uplink, internal",
        ),
        ({}, NO_ADDRESSES, KernelError, "no parent to make one on was found"),
        (
            {"EGRESS_PARENT_NETNS": None},
            replace(BRIDGE, links=(LOOPBACK, ETH0)),
            KernelError,
            "annotate the pod (pod.network.openshift.io/assign-macvlan",
        ),
        (
            {"EGRESS_PARENT_NETNS": None, "EGRESS_GATEWAY": "10.128.0.1"},
            BARE,
            KernelError,
            "no parent to make one on was found",
        ),
        (
            {},
            replace(NODE, links=(LOOPBACK, replace(NODE.links[1], up=False))),
            KernelError,
            "the parent link uplink is down; bring it up",
        ),
    ],
    ids=["asked-absent", "none-found", "own-namespace", "never-the-cluster-link", "down"],
)
def test_no_parent(
    changes: dict[str, str | None], parents: Observed, error: type[Exception], message: str
) -> None:
    """Where no parent can be had the message says what was looked for and what to do."""
    config = configure(**({"EGRESS_PARENT_NETNS": "/x"} | changes))
    with pytest.raises(error) as caught:
        decide_new_link(config, "macvlan0", parents, "eth0")
    assert message in str(caught.value)


def test_mac_follows_the_source() -> None:
    """The MAC is that of the source alone, unicast and locally administered, in every pod."""
    four, dual, six = configure(), configure(**DUAL), configure(**V6)
    assert derive_mac(four.identity) == "02:e6:c0:a8:0c:63" == derive_mac(dual.identity)
    assert derive_mac(six.identity).startswith("02:e7:")
    other = configure(**(V6 | {"EGRESS_SOURCE": "2001:db8:12::98"}))
    assert derive_mac(other.identity) != derive_mac(six.identity)
    assert bytes(ipaddress.ip_address(SOURCE).packed).hex(":") in derive_mac(four.identity)


@pytest.mark.parametrize(
    ("link", "changes", "found"),
    [
        pytest.param(MACVLAN0, {}, (), id="nothing-asked"),
        pytest.param(MACVLAN0, {"EGRESS_MACVLAN_MODE": "private"}, (), id="mode-fits"),
        pytest.param(
            MACVLAN0,
            {"EGRESS_MACVLAN_MODE": "bridge"},
            ("macvlan mode is private, EGRESS_MACVLAN_MODE asks bridge",),
            id="mode",
        ),
        pytest.param(
            replace(MACVLAN0, kind="veth", macvlan_mode=None),
            {"EGRESS_MACVLAN_MODE": "bridge"},
            ("kind is veth, EGRESS_MACVLAN_MODE asks macvlan",),
            id="kind",
        ),
        pytest.param(
            replace(MACVLAN0, kind=None, macvlan_mode=None),
            {"EGRESS_MACVLAN_MODE": "bridge"},
            ("kind is none, EGRESS_MACVLAN_MODE asks macvlan",),
            id="no-kind",
        ),
        pytest.param(
            replace(MACVLAN0, parent_index=5), {"EGRESS_PARENT": "uplink"}, (), id="parent-fits"
        ),
        pytest.param(
            replace(MACVLAN0, parent_index=6),
            {"EGRESS_PARENT": "uplink"},
            ("parent is internal, EGRESS_PARENT asks uplink",),
            id="parent",
        ),
        pytest.param(
            MACVLAN0,
            {"EGRESS_PARENT": "uplink"},
            ("parent is unknown, EGRESS_PARENT asks uplink",),
            id="parent-unknown",
        ),
        pytest.param(
            replace(MACVLAN0, kind="bridge"),
            {},
            ("it is a bridge link, which cannot be an egress link",),
            id="bridge",
        ),
        pytest.param(
            LOOPBACK, {}, ("it is a loopback link, which cannot be an egress link",), id="lo"
        ),
    ],
)
def test_differences(link: Link, changes: dict[str, str], found: tuple[str, ...]) -> None:
    """A link that is not the one asked for is answered with every difference in words."""
    assert differences(link, configure(**changes).link, NODE) == found


def test_own_links_are_marked() -> None:
    """Only a link with our group was made by us; Multus' and the annotation's are others'."""
    assert is_own(replace(MACVLAN0, group=LINK_GROUP))
    assert not any(is_own(link) for link in (*MULTUS.links, *BRIDGE.links))
