"""A lab leaves nothing behind, whatever ends it, and never meets another one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.namespaces import ETC_NETNS, NETNS, log_folder, remove_world
from egress_router.lab.spec import Family, LabSpec
from egress_router.lab.world import ROOT, Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

HOLDS_A_LAB = """
import signal
from egress_router.lab.world import Lab
with Lab() as lab:
    process = lab.start_partner(tcp=(80,))
    print(lab.prefix, process.pid, flush=True)
    while True:
        signal.pause()
"""


def traces(prefix: str) -> list[Path]:
    """Everything on this machine that carries a lab's prefix."""
    places = (NETNS, ETC_NETNS, log_folder(prefix).parent)
    return [path for place in places for path in place.glob(f"{prefix}*")]


def test_side_by_side(lab: MakeLab) -> None:
    """Two worlds with the same addresses each have a partner of their own."""
    first, second = lab(family=Family.V4), lab(family=Family.V4)
    assert first.prefix != second.prefix
    first.start_partner(tcp=(80,))
    assert isinstance(first.ask("node", "tcp", ADDRESSES.partner.v4, 80), Answer)
    assert second.ask("node", "tcp", ADDRESSES.partner.v4, 80) == "ECONNREFUSED"


def test_nothing_left_after_an_exception(lab: MakeLab) -> None:
    """An exception inside the world removes it and its processes, and passes on."""
    processes = []

    def break_inside(world: Lab) -> None:
        with world:
            processes.append(world.start("client", ("sleep", "600")))
            assert traces(world.prefix)
            raise ZeroDivisionError

    world = Lab()
    with pytest.raises(ZeroDivisionError):
        break_inside(world)
    assert traces(world.prefix) == []
    assert not processes[0].running


def test_nothing_left_after_a_failed_build(lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world that cannot be built is removed as far as it was."""
    built: list[str] = []

    def refuse(namespace: str, lines: object) -> None:
        built.append(namespace)
        raise OSError("refused")

    monkeypatch.setattr("egress_router.lab.namespaces.apply_batch", refuse)
    world = Lab()
    with pytest.raises(OSError, match="refused"), world:
        pass
    assert built
    assert traces(world.prefix) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)]
)
def test_nothing_left_after_a_signal(lab: MakeLab, number: signal.Signals, code: int) -> None:
    """SIGTERM and SIGINT remove the world and end its processes."""
    with subprocess.Popen(
        (sys.executable, "-c", HOLDS_A_LAB),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    ) as holder:
        prefix, pid = holder.stdout.readline().split()
        assert traces(prefix)
        holder.send_signal(number)
        assert holder.wait(20) == code
    assert traces(prefix) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_kept_world_is_removed_by_its_prefix(lab: MakeLab) -> None:
    """A kept world stays up with its processes until it is removed by name."""
    with Lab(LabSpec(family=Family.V4)) as world:
        world.keep()
        process = world.start_partner(tcp=(80,))
    try:
        assert isinstance(world.ask("node", "tcp", ADDRESSES.partner.v4, 80), Answer)
        assert world.namespace("pod") in world.enter("pod")
    finally:
        removed = remove_world(world.prefix)
    assert process.wait() == -signal.SIGKILL
    assert world.namespace("pod") in removed
    assert traces(world.prefix) == []


def test_environment_is_exact(lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gets the given environment and PATH, and nothing of ours."""
    monkeypatch.setenv("EGRESS_SOURCE", "192.0.2.1")
    listed = lab().run("pod", ("env",), {"EGRESS_GATEWAY": "192.0.2.2"}).stdout.splitlines()
    names = {line.partition("=")[0] for line in listed}
    assert names == {"PATH", "EGRESS_GATEWAY"}


def test_run_shows_what_failed(lab: MakeLab) -> None:
    """A failed command carries its output in the error."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        lab().run("pod", ("ip", "link", "show", "nowhere"))
    assert "nowhere" in "".join(caught.value.__notes__)


def test_waiting_names_what_was_printed(lab: MakeLab) -> None:
    """Waiting for a line of a program that ended, or is silent, says what it printed instead."""
    world = lab()
    ended = world.start("pod", ("sh", "-c", "echo only this; exit 3"))
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3 .*only this"):
        ended.wait_for_line("ready")
    silent = world.start("pod", ("sleep", "600"))
    with pytest.raises(TimeoutError, match=r"no 'ready' in 0\.05 s"):
        silent.wait_for_line("ready", timeout=0.05)
    assert silent.stop() == -signal.SIGTERM


def test_capture_is_complete_when_asked(lab: MakeLab) -> None:
    """Each datagram sent before the question is in the answer, and only what matches."""
    world = lab(family=Family.V4)
    world.start_partner(udp=(5000, 5001))
    with world.capture("node", "ens4", "udp port 5000") as capture:
        assert capture.packets() == ()
        for port in (5000, 5001, 5000):
            world.ask("node", "udp", ADDRESSES.partner.v4, port)
        packets = capture.packets()
        assert len(packets) == 4  # two questions, two answers
        assert capture.packets() == packets


def test_dump_tells_everything(lab: MakeLab) -> None:
    """The dump of a world shows routes of all tables, the ruleset and the logs."""
    world = lab()
    world.run("pod", ("ip", "route", "add", "198.51.100.0/24", "dev", "eth0", "table", "77"))
    world.run("pod", ("nft", "add", "table", "inet", "seen_in_dump"))
    world.start_partner(tcp=(80,))
    told = world.dump()
    for text in ("198.51.100.0/24 dev eth0 table 77", "seen_in_dump", "ready", "==== client"):
        assert text in told
