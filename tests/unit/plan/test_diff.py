"""The steps lead from any state to the wanted one, in the order that fails closed, and back."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from egress_router.config.init import InitConfig
from egress_router.errors import ConfigurationError, KernelError
from egress_router.plan.desired import desired_state
from egress_router.plan.diff import (
    AddAddress,
    AddRoute,
    AddRule,
    ChangeLink,
    Claim,
    CreateLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    LoadTable,
    SetSetting,
    SetSysctl,
    Step,
    diff_state,
    inverse,
    is_managed,
)
from egress_router.plan.ruleset import ruleset_digest
from egress_router.plan.state import (
    CLUSTER_TABLE,
    LINK_GROUP,
    MAIN_TABLE,
    MARK,
    PROTOCOL,
    UNREACHABLE_METRIC,
    Desired,
    Observed,
    Route,
    RouteKind,
    Rule,
    Table,
)
from model import worlds
from model.environments import DUAL, GATEWAY, PLAIN, SERVER, SOURCE, SOURCE_6, configure
from model.kernel import KERNEL, SEAL, FakeKernel, PlainKernel
from model.scenarios import CREATE, SCENARIOS, V6
from model.worlds import ETH0, LOOPBACK, MACVLAN0, NET1, address, route

OURS = {"protocol": PROTOCOL}
ENVIRONMENTS = [
    PLAIN,
    DUAL,
    V6,
    CREATE,
    {"EGRESS_SOURCE": SOURCE},
    {"EGRESS_SOURCE": "192.168.12.98/24", "EGRESS_GATEWAY": "192.168.12.254"},
    {"EGRESS_ROUTER_MODE": "http-proxy", "EGRESS_CONFLICT": "takeover"},
    {"EGRESS_INTERFACE": "net1", "EGRESS_MTU": "1400", "EGRESS_MAC": "02:00:00:00:00:01"},
    {"EGRESS_CLUSTER_CIDRS": "172.30.0.0/16", "EGRESS_DESTINATION": f"80-90 tcp {SERVER}"},
    CREATE | {"EGRESS_MACVLAN_MODE": "bridge"},
]
LINKS = [
    MACVLAN0,
    replace(MACVLAN0, up=True),
    replace(MACVLAN0, group=LINK_GROUP, parent_index=5, up=True),
    NET1,
    replace(NET1, inet=tuple((name, 1) for name, _ in NET1.inet)),
]
ADDRESSES = [
    address("eth0", "10.128.0.5/23"),
    address("eth0", "fd00:128::5/64"),
    *(
        address(link, text, ours=ours)
        for link in ("macvlan0", "net1")
        for text in (f"{SOURCE}/24", f"{SOURCE}/32", "192.168.12.98/24", f"{SOURCE_6}/64")
        for ours in (True, False)
    ),
]
ROUTES = [
    route("default", "eth0", "10.128.0.1"),
    route("default", "eth0", "fd00:128::1"),
    route("10.128.0.0/23", "eth0", protocol=KERNEL),
    route("10.0.0.0/8", "eth0", "10.128.0.1"),
    route("default", "net1", GATEWAY, metric=200),
    route("default", None, None, kind=RouteKind.UNREACHABLE, metric=UNREACHABLE_METRIC, **OURS),
    *(
        route(text, link, gateway, source=worlds.ipaddress.ip_address(source), **OURS)
        for link in ("macvlan0", "net1")
        for source in (SOURCE, "192.168.12.98")
        for text, gateway in (("default", GATEWAY), (f"{GATEWAY}/32", None))
    ),
    route("default", "eth0", "10.128.0.1", table=CLUSTER_TABLE, **OURS),
    route("10.9.0.0/16", "eth0", "10.128.0.9", table=CLUSTER_TABLE, **OURS),
    route("198.51.100.0/24", "eth0", "10.128.0.1", table=100),
]
RULES = [
    Rule(version=4, mark=MARK),
    Rule(version=6, mark=MARK),
    Rule(version=4, priority=8688, source=worlds.ipaddress.ip_network("10.128.0.5/32")),
    Rule(version=4, priority=8687, destination=worlds.ipaddress.ip_network("10.9.9.9/32")),
    Rule(version=4, priority=100, table=100, protocol=3, mark=1),
]
LISTING = f'table inet egress_router {{\n\tcomment "egress-router {"0" * 32}"\n}}\n'
TABLES = [
    None,
    Table(ours=True, digest="0" * 32, intact=True, text=LISTING + SEAL),
    Table(ours=True, digest="0" * 32, intact=False, text=LISTING),
]


def subsets(values: list[object]) -> st.SearchStrategy[list[object]]:
    """Some of them, in their order."""
    return st.lists(st.booleans(), min_size=len(values), max_size=len(values)).map(
        lambda chosen: [value for value, wanted in zip(values, chosen, strict=True) if wanted]
    )


@st.composite
def states(draw: st.DrawFn) -> Observed:
    """Any mixture of leftovers: of earlier runs, of network plugins and of others."""
    links = {link.name: link for link in draw(subsets(LINKS))}
    present = {"eth0", *links}
    return Observed(
        links=(LOOPBACK, ETH0, *links.values()),
        addresses=tuple(
            {
                (a.link, a.interface): a for a in draw(subsets(ADDRESSES)) if a.link in present
            }.values()
        ),
        routes=tuple(r for r in draw(subsets(ROUTES)) if r.link is None or r.link in present),
        rules=tuple(draw(subsets(RULES))),
        table=draw(st.sampled_from(TABLES)),
        sysctls=tuple((f"net/ipv6/conf/{name}/disable_ipv6", "1") for name in sorted(present)),
        nameservers=(worlds.NAMESERVER,),
    )


CONFIGS = st.sampled_from(ENVIRONMENTS).map(lambda environment: configure(**environment))


def wanted(config: InitConfig, observed: Observed) -> Desired:
    """The wanted state; examples that are refused are none."""
    try:
        return desired_state(config, observed, worlds.NODE)
    except (ConfigurationError, KernelError):
        assume(condition=False)
        raise


@given(states(), CONFIGS)
def test_the_steps_lead_to_the_wanted_state(observed: Observed, config: InitConfig) -> None:
    """Carried out as they are, the steps end in what was wanted; others' things are untouched."""
    desired = wanted(config, observed)
    kernel = PlainKernel(observed, parents=worlds.NODE)
    for step in diff_state(observed, desired):
        kernel.apply(step)
    after = kernel.observe()
    assert diff_state(after, replace(desired, create=None)) == ()
    assert {r for r in after.routes if is_managed(r)} == set(desired.routes)
    others = {r for r in observed.routes if not is_managed(r)}
    remade = desired.create is not None
    assert {r for r in after.routes if not is_managed(r)} == {
        r for r in others if not (remade and r.link == desired.egress)
    }
    assert {r for r in after.rules if r.protocol == PROTOCOL} == set(desired.rules)
    assert [r for r in after.rules if r.protocol != PROTOCOL] == [
        r for r in observed.rules if r.protocol != PROTOCOL
    ]
    assert after.table is not None
    assert after.table.digest == ruleset_digest(desired.table)
    assert {a.interface for a in desired.addresses} <= {
        a.interface for a in after.addresses_on(desired.egress)
    }
    assert {a.interface for a in after.addresses if a.ours} <= {
        a.interface for a in desired.addresses
    }


@given(states(), CONFIGS)
def test_every_step_can_be_undone(observed: Observed, config: InitConfig) -> None:
    """Each step's inverse takes it back; only a claim and a deleted link have none."""
    desired = wanted(config, observed)
    kernel = PlainKernel(observed, parents=worlds.NODE)
    for step in diff_state(observed, desired):
        before = kernel.observe()
        back = inverse(step, before)
        kernel.apply(step)
        if back is None:
            assert isinstance(step, Claim | DeleteLink | SetSysctl)
            continue
        undone = PlainKernel(kernel.observe(), parents=worlds.NODE)
        undone.apply(back)
        assert sorted_state(undone.observe()) == sorted_state(before), step


def sorted_state(observed: Observed) -> dict[str, object]:
    """A state without order."""
    return {
        field.name: sorted(map(str, held)) if isinstance(held, tuple) else held
        for field in dataclasses.fields(observed)
        for held in [getattr(observed, field.name)]
    }


def positions(steps: tuple[Step, ...], kind: type, **fields: object) -> list[int]:
    """Where the steps of one kind stand."""
    return [
        number
        for number, step in enumerate(steps)
        if isinstance(step, kind) and all(getattr(step, k) == v for k, v in fields.items())
    ]


def is_default(route_: Route) -> bool:
    """Whether a route is a default of `main` by which packets leave."""
    return route_.table == MAIN_TABLE and route_.is_default and route_.kind is RouteKind.UNICAST


@given(states(), CONFIGS)
def test_order(observed: Observed, config: InitConfig) -> None:
    """The order fails closed: see the head of plan.diff."""
    steps = diff_state(observed, wanted(config, observed))
    assert positions(steps, LoadTable) in ([], [0])
    barrier = [
        n for n in positions(steps, AddRoute) if steps[n].route.kind is RouteKind.UNREACHABLE
    ]
    old = [n for n in positions(steps, DeleteRoute) if is_default(steps[n].route)]
    new = [n for n in positions(steps, AddRoute) if is_default(steps[n].route)]
    assert all(b < o for b in barrier for o in old)
    assert all(o < n for o in old for n in new)
    gone, come = positions(steps, DeleteAddress), positions(steps, AddAddress)
    assert all(g < c for g in gone for c in come)
    assert all(c < n for c in come for n in new)
    claims = positions(steps, Claim)
    assert all(u < c for u in positions(steps, ChangeLink, up=True) for c in claims)
    assert all(c < a for c in claims for a in come)
    made = positions(steps, CreateLink)
    assert all(m < n for m in made for n in (*claims, *come, *new, *positions(steps, SetSetting)))
    ours = [n for n in positions(steps, AddRoute) if steps[n].route.table == CLUSTER_TABLE]
    assert all(o < r for o in ours for r in positions(steps, AddRule))
    assert all(o < d for o in (*ours, *positions(steps, AddRule)) for d in old)


@pytest.mark.parametrize("name", SCENARIOS)
def test_converged_state_needs_no_step(name: str) -> None:
    """What the steps make of a pod, side effects of the kernel included, needs no further step."""
    scenario = SCENARIOS[name]
    config = scenario.configure()
    kernel = FakeKernel(scenario.world, parents=worlds.NODE)
    for step in diff_state(kernel.observe(), desired_state(config, kernel.observe(), worlds.NODE)):
        kernel.apply(step)
    observed = kernel.observe()
    assert diff_state(observed, desired_state(config, observed, worlds.NODE)) == ()


def test_takeover_does_not_ask() -> None:
    """With EGRESS_CONFLICT=takeover the address is claimed without a probe."""
    observed = FakeKernel(worlds.BRIDGE).observe()
    for conflict, claims in (("wait", 1), ("takeover", 0)):
        desired = desired_state(configure(EGRESS_CONFLICT=conflict), observed, None)
        assert len(positions(diff_state(observed, desired), Claim)) == claims


def test_held_address_is_not_claimed_again() -> None:
    """An address that is on the link already is not probed for: we would find ourselves."""
    world = replace(
        worlds.BRIDGE, addresses=(*worlds.BRIDGE.addresses, address("macvlan0", f"{SOURCE}/24"))
    )
    observed = FakeKernel(world).observe()
    steps = diff_state(observed, desired_state(configure(), observed, None))
    assert positions(steps, Claim) == positions(steps, AddAddress) == []
