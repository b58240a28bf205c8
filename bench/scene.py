"""What a topic is measured in: the lab and the load in it; how each load is noted.

One way for all topics, so that a row means the same in every table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.machine import KIB, observe_memory_bytes
from bench.results import IDLE, LESS, OF_THE_LOAD
from bench.run import say

if TYPE_CHECKING:
    from pathlib import Path

    from bench.load import Generator, Loaded
    from bench.results import At, Topic
    from bench.run import Options
    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host
    from egress_router.lab.world import Lab

RATES = (250, 1000)  # of the paced loads, a second
PACED_AT_ONCE = 512
AT_ONCE = (8, 32, 128)  # connections that are being made, where that is what grows
HOLD_LIMIT_S = 120.0
FIRST_HELD = 100  # what a process allocates for its first connections is none of one connection
HELD = [1000, 5000]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A side under load: where it is called, what is asked for, and the root of its processes.

    `process` None: the kernel alone. `target` as `tunnels.c` takes it.
    """

    side: str
    endpoint: tuple[str, int]
    process: Process | None = None
    target: str = "-"

    @property
    def pid(self) -> int | None:
        """The root of its processes."""
        return None if self.process is None else self.process.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The lab, and what makes the load in it."""

    lab: Lab
    folder: Path
    load: Generator
    topic: Topic
    options: Options

    def open_connections(
        self,
        name: str,
        target: Target,
        *,
        host: Host = "client",
        at: At | None = None,
        at_once: int = 32,
    ) -> None:
        """Connections, each with a request and its answer, as many as so many places can make."""
        seen = self.load.tunnels(
            "open", host, target.endpoint, target.target, at_once, pid=target.pid
        )
        self.note_rate(name, target, seen, at=at)

    def fill_streams(
        self,
        name: str,
        target: Target,
        streams: int,
        *,
        host: Host = "client",
        at: At | None = None,
    ) -> None:
        """Bytes through some connections."""
        seen = self.load.tunnels(
            "fill", host, target.endpoint, target.target, streams, pid=target.pid
        )
        self._note(name, target, seen.rate / 1e9, unit="GB/s", at=at)
        if target.pid is not None:
            cpu = seen.cpu_s * 1e9
            self._note(f"{name}: CPU", target, cpu, unit="s/GB", better=LESS, at=at)
        self._note_load(name, target, seen, at)

    def pace_connections(self, name: str, target: Target, rate: int) -> None:
        """Connections at a fixed rate: how long each took from when it was due."""
        seen = self.load.tunnels(
            "open",
            "client",
            target.endpoint,
            target.target,
            PACED_AT_ONCE,
            pid=target.pid,
            rate=rate,
        )
        at = (rate, "a second")
        self._note(f"{name}, p50", target, seen.p50, unit="ms", better=LESS, at=at)
        self._note(f"{name}, p99", target, seen.p99, unit="ms", better=LESS, at=at)

    def hold_connections(self, name: str, target: Target) -> None:
        """Memory of connections that do nothing; of a process that has had no load before.

        One that had keeps what it once took, and new connections would seem to need none.
        """
        assert target.pid is not None
        counts = [FIRST_HELD, *HELD]
        holder = self.load.hold("client", target.endpoint, target.target, counts)
        try:
            holder.wait_for_line(f"held {FIRST_HELD} ", HOLD_LIMIT_S)
            before = observe_memory_bytes(target.pid)
            for count in HELD:
                holder.wait_for_line(f"held {count} ", HOLD_LIMIT_S)
                grown = observe_memory_bytes(target.pid) - before
                each = grown / (count - FIRST_HELD) / KIB
                self._note(name, target, each, unit="KiB", better=LESS, at=(count, "held"))
        except (RuntimeError, TimeoutError) as ended:
            say(f"{target.side}: {ended}")
        finally:
            holder.stop()

    def note_rate(self, name: str, target: Target, seen: Loaded, *, at: At | None = None) -> None:
        """A rate, what each cost, how many failed, and what the load took itself."""
        self._note(name, target, seen.rate, at=at)
        if target.pid is not None and seen.rate:
            cpu = seen.cpu_s * 1e6
            self._note(f"{name}: CPU each", target, cpu, unit="us", better=LESS, at=at)
        self._note_load(name, target, seen, at)
        if seen.failed:
            self._note(f"{name}: failed", target, seen.failed, better=LESS, at=at)

    def _note_load(self, name: str, target: Target, seen: Loaded, at: At | None) -> None:
        self._note(f"{name}{OF_THE_LOAD}", target, seen.own, better=LESS, at=at)
        self._note(f"{name}{IDLE}", target, seen.idle, better=LESS, at=at)

    def _note(  # noqa: PLR0913 - see Topic.note
        self,
        name: str,
        target: Target,
        value: float,
        *,
        unit: str = "",
        better: str = "more",
        at: At | None = None,
    ) -> None:
        self.topic.note(name, target.side, value, unit=unit, better=better, at=at)


def take_down(lab: Lab) -> None:
    """Leaves the pod as a new one: no source, no table, and no connections of the last load."""
    lab.run("pod", ("ip", "address", "flush", "dev", "macvlan0"))
    lab.run("pod", ("ip", "link", "set", "macvlan0", "down"))
    lab.run("pod", ("nft", "flush", "ruleset"))
    lab.run("pod", ("conntrack", "-F"))
