"""A run that fails leaves the pod as it was; a run that is killed leaves work for the next one."""

import difflib
import os
import signal
import time

import pytest

from egress_router.config.init import InitConfig
from egress_router.errors import AddressConflictError
from egress_router.kernel.converge import converge
from egress_router.plan.diff import DeleteLink, Step
from egress_router.plan.state import MAIN_TABLE, Observed, RouteKind
from model.bench import Bench, Failing, KilledError, OpenBench, fake_bench
from model.environments import DUAL, SOURCE_6
from model.kernel import FakeKernel, normal
from model.real import run
from model.scenarios import SCENARIOS, Scenario

CHILD_LIMIT_S = 20
TAKEOVER = {"EGRESS_CONFLICT": "takeover"}  # spares each of many runs a tenth of a second

# What is set up when the run comes that fails: nothing, or another configuration.
BEFORE: dict[str, tuple[str, dict[str, str] | None, dict[str, str]]] = {
    "fresh-dual-stack": ("dual-stack", None, {}),
    "fresh-new-link": ("new-link", None, {}),
    "fresh-calico-host-address": ("calico", None, {"EGRESS_SOURCE": "192.168.12.99"}),
    "fresh-multus": ("multus", None, {}),
    "changed-source": (
        "dual-stack",
        DUAL | {"EGRESS_SOURCE": f"192.168.12.99,{SOURCE_6}"},
        {"EGRESS_SOURCE": f"192.168.12.98/24,{SOURCE_6}/64", "EGRESS_MTU": "1400"},
    ),
    "changed-length": ("single-port", {}, {"EGRESS_SOURCE": "192.168.12.99/32"}),
    "from-host-address": ("host-address", {}, {"EGRESS_SOURCE": "192.168.12.98/24"}),
    "changed-gateway": ("dual-stack", DUAL, {"EGRESS_GATEWAY": "192.168.12.254 fe80::1"}),
    "removed-family": ("dual-stack", {"EGRESS_MTU": "1400"}, {"EGRESS_SOURCE": "192.168.12.98/24"}),
}
REAL = ["fresh-new-link", "changed-source"]


def prepare(name: str, opened: OpenBench) -> tuple[Bench, InitConfig]:
    """A pod as it is before the run in question, others' things in it; and what is wanted."""
    scenario, before, after = BEFORE[name]
    pod = opened(SCENARIOS[scenario])
    if before is not None:
        pod.converge(pod.configure(**TAKEOVER, **before))
    if pod.real is not None:
        add_foreign_things(pod.real.pod)
    if name == "removed-family":
        after = {
            "EGRESS_SOURCE": "192.168.12.98/24",
            "EGRESS_GATEWAY": "192.168.12.1",
            "EGRESS_DESTINATION": "80 tcp 203.0.113.25",
        }
    return pod, pod.configure(**TAKEOVER, **after)


def add_foreign_things(namespace: str) -> None:
    """Tables, rules, routes and addresses that are not ours, and that must stay."""
    run(
        *("ip", "netns", "exec", namespace, "nft", "-f", "-"),
        text="""
        table ip nat {
            chain prerouting {
                type nat hook prerouting priority dstnat
                tcp dport 15001 accept
            }
        }
        table inet filter {
            set known {
                type ipv4_addr
                elements = { 192.0.2.1 }
            }
        }
        """,
    )
    run(
        *("ip", "-n", namespace, "-batch", "-"),
        text="""
        rule add from 192.0.2.0/24 lookup 100 priority 100
        route add 198.51.100.0/24 dev eth0 table 100 proto static
        route add 198.51.100.0/24 dev eth0 proto static
        route add blackhole 192.0.2.128/25
        addr add 192.0.2.9/32 dev eth0
        """,
    )


@pytest.mark.parametrize("name", BEFORE)
def test_every_failure_is_undone_on_the_fake_kernel(name: str, on_fake: OpenBench) -> None:
    """Whichever step fails, the pod is as it was, and the next run succeeds."""
    fail_everywhere(*prepare(name, on_fake))


@pytest.mark.netns
@pytest.mark.parametrize("name", REAL)
def test_every_failure_is_undone_on_the_real_kernel(name: str, on_real: OpenBench) -> None:
    """As on the fake kernel, and byte for byte, with what others have in the namespace."""
    fail_everywhere(*prepare(name, on_real))


def fail_everywhere(pod: Bench, config: InitConfig) -> None:
    """Runs with each step failing in turn; each time all is as before."""
    before = pod.fingerprint()
    for at in range(200):
        failing = Failing(pod.kernel, at)
        try:
            pod.converge(config, kernel=failing)
        except KilledError:
            assert changes(before, pod.fingerprint()) == [], f"step {at}"
        else:
            break
    assert failing.done == at > 5
    assert pod.converge(config) == []


def changes(before: str, after: str) -> list[str]:
    """The lines that differ, so that a failure can be read."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def test_interrupted_between_steps(on_fake: OpenBench) -> None:
    """A signal that is honoured between two steps undoes all of them."""
    pod, config = prepare("changed-source", on_fake)
    before = pod.fingerprint()
    for at in range(200):
        seen: list[Step] = []

        def applied(step: Step, seen: list[Step] = seen, at: int = at) -> None:
            seen.append(step)
            if len(seen) == at + 1:
                raise KilledError

        try:
            pod.converge(config, applied=applied)
        except KilledError:
            assert changes(before, pod.fingerprint()) == [], f"after step {at}"
        else:
            break
    assert at > 5


@pytest.mark.parametrize("name", BEFORE)
def test_killed_at_every_step_on_the_fake_kernel(name: str) -> None:
    """A run that stopped anywhere without undoing is completed by the next one."""
    golden = None
    for at in range(200):
        with_bench = []

        def opened(scenario: Scenario, kept: list[object] = with_bench) -> Bench:
            context = fake_bench(scenario)
            kept.append(context)
            return context.__enter__()

        pod, config = prepare(name, opened)
        if golden is None:
            golden = golden_state(prepare(name, opened))
        failing = Failing(pod.kernel, at, dead=True)
        try:
            converge(
                failing, pod.desire(config), applied=lambda _: None, undo_failed=lambda *_: None
            )
        except KilledError:
            pass
        else:
            break
        pod.converge(config)
        assert pod.state() == golden, f"killed before step {at}"
    assert at > 5


def golden_state(prepared: tuple[Bench, InitConfig]) -> Observed:
    """What an undisturbed run ends in."""
    pod, config = prepared
    pod.converge(config)
    return pod.state()


@pytest.mark.netns
def test_killed_at_every_step_on_the_real_kernel(on_real: OpenBench) -> None:
    """SIGKILL after any step: the next run ends in the golden state, nothing of it twice."""
    scenario = SCENARIOS["new-link"]
    undisturbed = on_real(scenario)
    steps = undisturbed.converge(undisturbed.configure(**TAKEOVER))
    golden = undisturbed.state()
    for at in range(len(steps)):
        pod = on_real(scenario)
        config = pod.configure(**TAKEOVER)
        assert run_and_die(pod, config, at) == signal.SIGKILL
        pod.converge(config)
        assert pod.state() == golden, f"killed after {steps[at]}"


@pytest.mark.netns
def test_killed_between_load_and_seal(on_real: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that was loaded, but not sealed, is loaded again."""
    pod = on_real(SCENARIOS["single-port"])
    config = pod.configure(**TAKEOVER)
    with monkeypatch.context() as patched:
        patched.setattr("egress_router.kernel.nft.Nft._sealed", lambda *_: die())
        assert run_and_die(pod, config, -1) == signal.SIGKILL
    assert "sent" in pod.real.run("nft", "list", "table", "inet", "egress_router")
    pod.converge(config)
    table = pod.kernel.observe().table
    assert table is not None
    assert table.intact
    assert pod.converge(config) == []


def die() -> None:
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(pod: Bench, config: InitConfig, at: int) -> int:
    """Converges in a child that is killed right after step `at`; the signal it died of."""
    assert pod.real is not None
    child = os.fork()
    if child == 0:
        done = 0

        def applied(_: Step) -> None:
            nonlocal done
            if done == at:
                die()
            done += 1

        try:
            with pod.real.kernel() as (kernel, _):
                pod.converge(config, kernel=kernel, applied=applied)
        finally:
            os._exit(1)
    deadline = time.monotonic() + CHILD_LIMIT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WTERMSIG(status)
        os.sched_yield()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError


def test_failed_remake_stays_closed(bench: OpenBench) -> None:
    """Where a link of our own was to be made anew and could not, nothing leaves, and a rerun heals.

    The old link cannot be put back: what it was made of is not known any more.
    """
    pod = bench(SCENARIOS["new-link"])
    pod.converge(pod.configure(**TAKEOVER))
    config = pod.configure(**TAKEOVER, EGRESS_MACVLAN_MODE="bridge")

    def applied(step: Step) -> None:
        if isinstance(step, DeleteLink):
            raise KilledError

    with pytest.raises(KilledError):
        pod.converge(config, applied=applied)
    observed = pod.kernel.observe()
    kinds = [r.kind for r in observed.routes if r.table == MAIN_TABLE and r.is_default]
    assert kinds == [RouteKind.UNREACHABLE]
    pod.converge(config)
    link = pod.kernel.observe().link("macvlan0")
    assert link is not None
    assert link.macvlan_mode == "bridge"


def test_conflict_is_undone() -> None:
    """Where another station holds the source, all is undone and the holder is named."""
    scenario = SCENARIOS["dual-stack"]
    kernel = FakeKernel(
        scenario.world,
        held=scenario.configure().identity.sources
        and [scenario.configure().identity.sources[0].address],
    )
    before = normal(kernel.observe())
    pod = Bench(kernel=kernel, scenario=scenario, parents=None, node="", fingerprint=lambda: "")
    with pytest.raises(AddressConflictError, match="held by 02:00:00:00:00:99"):
        pod.converge(pod.configure())
    assert normal(kernel.observe()) == before
    pod.converge(pod.configure(EGRESS_CONFLICT="takeover"))
