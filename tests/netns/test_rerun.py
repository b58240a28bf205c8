"""Init may run again at any time, be killed at any time, and be asked to stop at any time."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import TCP_PORTS, UDP_PORTS, router_environment
from egress_router.lab.process import POLL_S, Process
from egress_router.lab.spec import Egress
from egress_router.lab.state import comparable, observe_state
from egress_router.lab.world import BARE_PYTHON, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

KILLS = 10  # for each kind of egress link
STEP = '"event":"step_applied"'
STEPS_LIMIT_S = 20.0
TERMINATED = 128 + signal.SIGTERM
KERNEL = 4
SETTLED = (("net.ipv6.conf.default.accept_dad", "0"),)  # link-local addresses count at once
MANY_NETWORKS = " ".join(f"198.18.{number}.0/24" for number in range(250))
FAKE_BINDING = """
import pathlib, time
CALLS = pathlib.Path({calls!r})
class Nftables:
    def cmd(self, command):
        if command.startswith("list"):
            return 1, "", "Error: No such file or directory"
        if not self.dry:
            with CALLS.open("a") as calls:
                calls.write(command.splitlines()[-1] + "\\n")
            if len(CALLS.read_text().splitlines()) == 1:
                {failure}
        return 0, "", ""
    def set_dry_run(self, wanted): self.dry = wanted
    def set_stateless_output(self, wanted): pass
    def set_numeric_proto_output(self, wanted): pass
"""


def environment(world: Lab, **changes: str | None) -> dict[str, str]:
    """Init's, with a line of log for every step."""
    if world.spec.egress is Egress.PARENT:
        changes["EGRESS_PARENT_NETNS"] = f"/run/netns/{world.namespace('node')}"
    # Before the first step and while a claim listens there is nothing to be killed in.
    return router_environment(
        world.spec, EGRESS_LOG_LEVEL="debug", EGRESS_CONFLICT="takeover", **changes
    )


def steps(process: Process) -> int:
    """How many changes a run has made so far."""
    return process.errors().count(STEP)


def wait_for_steps(process: Process, count: int) -> None:
    """Returns when a run has made that many changes, or has ended."""
    deadline = time.monotonic() + STEPS_LIMIT_S
    while steps(process) < count and process.running:
        assert time.monotonic() < deadline, process.tail()
        time.sleep(POLL_S)


@pytest.mark.parametrize("egress", Egress)
def test_second_run_changes_nothing(lab: MakeLab, egress: Egress) -> None:
    """A second run makes no step and leaves the same state, rule for rule and route for route."""
    world = lab(egress=egress, pod_sysctls=SETTLED)
    world.router(("init",), environment(world))
    first = observe_state(world)
    done = world.router(("init",), environment(world))
    assert STEP not in done.stderr
    assert observe_state(world) == first


@pytest.fixture(scope="module")
def golden(module_lab: MakeLab) -> Callable[[Egress], tuple[str, int]]:
    """The state after one undisturbed run, and how many steps that took."""
    found: dict[Egress, tuple[str, int]] = {}

    def state(egress: Egress) -> tuple[str, int]:
        if egress not in found:
            world = module_lab(egress=egress, pod_sysctls=SETTLED)
            done = world.router(("init",), environment(world))
            text = comparable(world, observe_state(world))
            found[egress] = (text, done.stderr.count(STEP))
        return found[egress]

    return state


@pytest.mark.parametrize("turn", range(KILLS))
@pytest.mark.parametrize("egress", [Egress.HANDED, Egress.PARENT])
def test_run_after_a_kill(
    lab: MakeLab, golden: Callable[[Egress], tuple[str, int]], egress: Egress, turn: int
) -> None:
    """After a kill at any step one clean run ends in the state of a run that was never killed."""
    wanted, all_steps = golden(egress)
    world = lab(egress=egress, pod_sysctls=SETTLED)
    victim = world.start_router(("init",), environment(world))
    wait_for_steps(victim, 1 + turn * all_steps // KILLS)
    victim.signal(signal.SIGKILL)
    victim.wait()
    assert steps(victim) >= 1  # it was killed in the middle, or right after its last step
    world.router(("init",), environment(world))
    assert comparable(world, observe_state(world)) == wanted


@pytest.mark.parametrize("egress", [Egress.HANDED, Egress.PARENT])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_the_middle(lab: MakeLab, number: signal.Signals, egress: Egress) -> None:
    """SIGTERM and SIGINT in the middle of the steps undo those that were made."""
    world = lab(egress=egress, pod_sysctls=SETTLED)
    before = observe_state(world), observe_state(world, "node")
    init = world.start_router(
        ("init",), environment(world, EGRESS_CLUSTER_CIDRS=MANY_NETWORKS)
    )  # one rule for each network: time enough for a signal to come between two of them
    wait_for_steps(init, 40)
    init.signal(number)
    assert init.wait() == TERMINATED, init.tail()
    assert f"{number.name} before the set-up was complete" in init.errors()
    assert "init_done" not in init.errors()
    assert (observe_state(world), observe_state(world, "node")) == before
    world.router(("init",), environment(world))


def test_changed_source_is_applied(lab: MakeLab) -> None:
    """Another source replaces the old one, which is no longer anywhere in the pod."""
    world = lab()
    world.start_partner(tcp=TCP_PORTS, udp=UDP_PORTS)
    world.router(("init",), environment(world))
    world.router(("init",), environment(world, EGRESS_SOURCE="192.168.12.98/24,2001:db8:12::98/64"))
    state = observe_state(world)
    for version in (4, 6):
        seen = world.ask("client", "tcp", ADDRESSES.pod.of(version), 80)
        assert isinstance(seen, Answer), seen
        assert str(seen.source) in {"192.168.12.98", "2001:db8:12::98"}
        assert f"{ADDRESSES.source.of(version)}" not in state


@pytest.mark.parametrize("version", [4, 6])
def test_flow_follows_a_changed_destination(lab: MakeLab, version: int) -> None:
    """A UDP client that keeps its source port is sent to the new destination after every rerun."""
    first, second, *_ = (pair.of(version) for pair in ADDRESSES.partners)
    world = lab()
    world.start_partner(udp=(80, 5000))
    for line, expected in (
        (f"80 udp {first}", (first, 80)),
        (f"80 udp {second}", (second, 80)),
        (f"80 udp {second} 5000", (second, 5000)),
        (f"81 udp {second}", "ECONNREFUSED"),
    ):
        world.router(("init",), environment(world, EGRESS_DESTINATION=line))
        call = ("client", "udp", ADDRESSES.pod.of(version), 80)
        seen = world.ask(*call, source_port=40001, timeout=1)
        told = (seen.local, seen.local_port) if isinstance(seen, Answer) else seen
        assert told == expected, line


def replaced_binding(world: Lab, fake: Path) -> tuple[str, ...]:
    """Runs a program with another text in the place of the libnftables binding."""
    where = (BARE_PYTHON[0], "-I", "-c", "import nftables; print(nftables.__file__)")
    real = world.run("pod", where).stdout.strip()
    script = f'mount --bind {fake} {real}; exec "$@"'
    return ("unshare", "--mount", "sh", "-ec", script, "sh")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("time.sleep(600)", "no answer within 10 s"),
        ('return 1, "", "Error: No buffer space\\nand more"', "Error: No buffer space"),
    ],
)
def test_nftables_fails(lab: MakeLab, tmp_path: Path, failure: str, words: str) -> None:
    """A library that hangs is ended, one that fails is quoted by its first line; all is undone."""
    world = lab()
    fake, calls = tmp_path / "nftables.py", tmp_path / "calls"
    fake.write_text(FAKE_BINDING.format(calls=str(calls), failure=failure))
    before = observe_state(world)
    wrap = replaced_binding(world, fake)
    done = world.router(("init",), environment(world), wrap=wrap, check=False)
    assert done.returncode == KERNEL
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert observe_state(world) == before
    assert calls.read_text().splitlines() == ["}", "delete table inet egress_router"]


def test_library_is_missing(lab: MakeLab, tmp_path: Path) -> None:
    """Without libnftables init says so, with the package's name."""
    world = lab()
    fake = tmp_path / "nftables.py"
    fake.write_text("raise OSError('libnftables.so.1: cannot open shared object file')")
    before = observe_state(world)
    wrap = replaced_binding(world, fake)
    done = world.router(("init",), environment(world), wrap=wrap, check=False)
    assert done.returncode == KERNEL
    assert "libnftables.so.1: cannot open shared object file" in done.stderr
    assert "install python3-nftables" in done.stderr
    assert observe_state(world) == before
