"""Whatever was there before, the pod ends in the wanted state, on the fake kernel and the real."""

import random
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_router.config.init import InitConfig
from egress_router.plan.diff import (
    AddAddress,
)
from egress_router.plan.state import CLUSTER_TABLE, MAIN_TABLE, Observed, RouteKind
from model import worlds
from model.bench import OpenBench, fake_bench
from model.environments import GATEWAY_6, PLAIN, SERVER, SOURCE, SOURCE_6
from model.scenarios import SCENARIOS, V6, Scenario

# What a router may be changed to. All are laid over the dual-stack scenario.
CHANGES: dict[str, dict[str, str]] = {
    "as-it-was": {},
    "source": {"EGRESS_SOURCE": f"192.168.12.98/24, {SOURCE_6}/64"},
    "source-6": {"EGRESS_SOURCE": f"{SOURCE}/24, 2001:db8:12::98/64"},
    "length": {"EGRESS_SOURCE": f"{SOURCE}/32, {SOURCE_6}/128"},
    "gateway": {"EGRESS_GATEWAY": f"192.168.12.254 {GATEWAY_6}"},
    "link-local-gateway": {"EGRESS_GATEWAY": "192.168.12.1 fe80::1"},
    "destination": {"EGRESS_DESTINATION": f"8080-8090 tcp {SERVER}"},
    "without-ipv6": PLAIN,
    "without-ipv4": V6,
    "http-proxy": {"EGRESS_ROUTER_MODE": "http-proxy"},
    "admin-port": {"EGRESS_ADMIN_PORT": "9099"},
    "cluster-networks": {"EGRESS_CLUSTER_CIDRS": "172.30.0.0/16, fd00:30::/112"},
}
# One scenario of each kind of pod: the others differ from `fallback` in the table's text alone.
WORLDS = [
    *("fallback", "host-address", "dual-stack", "ipv6-only"),
    *("calico", "cilium-mtu", "ovn", "multus", "new-link"),
]
PAIRS = [
    *(("as-it-was", name) for name in CHANGES if name != "as-it-was"),
    *(("without-ipv6", name) for name in ("as-it-was", "without-ipv4")),
    ("length", "as-it-was"),
    ("http-proxy", "as-it-was"),
]


def check_promise(observed: Observed, config: InitConfig) -> None:
    """What design.md promises of routes and addresses, said once more in other words."""
    main = [r for r in observed.routes if r.table == MAIN_TABLE and r.is_default]
    for source in config.identity.sources:
        unicast, barrier = sorted(
            (r for r in main if r.version == source.version),
            key=lambda r: r.kind is not RouteKind.UNICAST,
        )
        assert (unicast.gateway, unicast.source) == (
            config.identity.gateway(source.version),
            source.address,
        )
        assert unicast.link == (
            config.link.egress or "net1" if observed.link("net1") else "macvlan0"
        )
        assert (barrier.kind, barrier.metric) == (RouteKind.UNREACHABLE, 2**32 - 1)
        assert any(a.interface.ip == source.address and a.ours for a in observed.addresses)
    assert {r.link for r in main} <= {None, "macvlan0", "net1"}
    ours = [r for r in observed.routes if r.table == CLUSTER_TABLE]
    assert ours
    assert {r.link for r in ours} == {"eth0"}
    assert observed.table is not None
    assert observed.table.ours
    assert observed.table.intact


def fresh_outcome(scenario: Scenario, **changes: str) -> Observed:
    """The golden state: what a first run on the fake kernel ends in."""
    with fake_bench(scenario) as bench:
        bench.converge(bench.configure(**changes))
        return bench.outcome()


@pytest.mark.netns
@pytest.mark.parametrize("name", WORLDS)
def test_both_kernels_show_the_same(name: str, on_fake: OpenBench, on_real: OpenBench) -> None:
    """Before and after the set-up the fake kernel shows what the real one shows."""
    fake, real = on_fake(SCENARIOS[name]), on_real(SCENARIOS[name])
    assert fake.state() == real.state()
    fake_steps, real_steps = fake.converge(fake.configure()), real.converge(real.configure())
    assert [type(step) for step in fake_steps] == [type(step) for step in real_steps]
    assert fake.state() == real.state()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_second_run_changes_nothing(name: str, on_fake: OpenBench) -> None:
    """A fresh pod is set up as promised; a second run takes not one step."""
    bench = on_fake(SCENARIOS[name])
    config = bench.configure()
    assert bench.converge(config)
    check_promise(bench.kernel.observe(), config)
    before = bench.fingerprint()
    assert bench.converge(config) == []
    assert bench.fingerprint() == before


@pytest.mark.parametrize("name", ["dual-stack", "new-link"])
def test_a_second_run_changes_nothing_at_all(name: str, bench: OpenBench) -> None:
    """A second run takes not one step, and nothing that can be listed differs."""
    pod = bench(SCENARIOS[name])
    config = pod.configure()
    pod.converge(config)
    check_promise(pod.kernel.observe(), config)
    before = pod.fingerprint()
    assert pod.converge(config) == []
    assert pod.fingerprint() == before


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=map("-to-".join, PAIRS))
def test_changed_configuration(first: str, second: str, on_fake: OpenBench) -> None:
    """A changed configuration ends in exactly the state that it gives a fresh pod.

    On the real kernel a walk through all of them shows the same, further below.
    """
    scenario = SCENARIOS["dual-stack"]
    pod = on_fake(scenario)
    pod.converge(pod.configure(**CHANGES[first]))
    config = pod.configure(**CHANGES[second])
    pod.converge(config)
    assert pod.outcome() == fresh_outcome(scenario, **CHANGES[second])
    assert pod.converge(config) == []


def test_changed_macvlan_mode(bench: OpenBench) -> None:
    """A link of our own making that no longer fits is made anew, and all of it is set up again."""
    scenario = SCENARIOS["new-link"]
    pod = bench(scenario)
    pod.converge(pod.configure())
    pod.converge(pod.configure(EGRESS_MACVLAN_MODE="bridge"))
    assert pod.outcome() == fresh_outcome(scenario, EGRESS_MACVLAN_MODE="bridge")
    link = pod.kernel.observe().link("macvlan0")
    assert link is not None
    assert link.macvlan_mode == "bridge"


def test_changed_mtu_and_mac(bench: OpenBench) -> None:
    """MTU and MAC of the egress link follow the configuration, and what was set up stays."""
    pod = bench(SCENARIOS["single-port"])
    pod.converge(pod.configure())
    before = pod.outcome()
    pod.converge(pod.configure(EGRESS_MTU="1400", EGRESS_MAC="02:00:00:00:00:42"))
    link = pod.kernel.observe().link("macvlan0")
    assert link is not None
    assert (link.mtu, link.mac) == (1400, "02:00:00:00:00:42")
    assert pod.outcome() == before


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=5), st.sampled_from(sorted(CHANGES)))
def test_any_order_on_the_fake_kernel(history: list[str], last: str) -> None:
    """The last configuration decides the state, whatever came before it."""
    with fake_bench(SCENARIOS["dual-stack"]) as pod:
        for name in history:
            pod.converge(pod.configure(**CHANGES[name]))
        pod.converge(pod.configure(**CHANGES[last]))
        assert pod.outcome() == fresh_outcome(SCENARIOS["dual-stack"], **CHANGES[last])


@pytest.mark.netns
def test_any_order_on_the_real_kernel(on_real: OpenBench) -> None:
    """As on the fake kernel, for one walk through all of them in random order."""
    pod = on_real(SCENARIOS["dual-stack"])
    names = random.sample(sorted(CHANGES), len(CHANGES))
    for name in names:
        pod.converge(pod.configure(**CHANGES[name]))
        assert pod.outcome() == fresh_outcome(SCENARIOS["dual-stack"], **CHANGES[name]), names
    assert pod.converge(pod.configure(**CHANGES[names[-1]])) == []


def test_foreign_address_stays(bench: OpenBench) -> None:
    """A second address that somebody else put on the link survives a change of the source."""
    pod = bench(SCENARIOS["single-port"])
    pod.converge(pod.configure())
    foreign = worlds.address("macvlan0", "192.168.12.77/24")
    pod.kernel.apply(AddAddress(address=foreign))
    pod.converge(pod.configure(EGRESS_SOURCE="192.168.12.98/24"))
    held = {a.interface.ip for a in pod.kernel.observe().addresses_on("macvlan0")}
    assert {ip_address("192.168.12.98"), ip_address("192.168.12.77")} <= held
    assert ip_address(SOURCE) not in held
