"""The load: `tunnels`, compiled at the start of a run, and wrk for requests that keep alive.

1. The same load goes before each that is measured, for `WARM_S`: what a side imports, resolves or
   allocates for its first connections is none of what a later one costs.
2. A single process ends before the kernel's forwarding does; several take more of the processors
   from a proxy that wants all of them. So both are tried, each for `WARM_S`, and every side is
   measured by the one that brings more out of it.
3. A server takes half of what a client does, and has half as many processes.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.machine import PROCESSORS, TICKS, observe_cpu_s, observe_idle_s
from bench.ports import forget_connections

if TYPE_CHECKING:
    from bench.run import Options
    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host
    from egress_router.lab.world import Lab

SOURCE = Path(__file__).with_name("tunnels.c")
MARGIN_S = 60.0
WARM_S = 0.5
SERVER_PORT = 7000
_WRK_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
_WRK_TIMES = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What one load found. `rate` is of things or bytes a second, `p50` and `p99` are ms.

    `cpu_s` is the processor time of the side under test, for each thing or byte; `own` the
    processors that the load and its server took meanwhile (1.0: one of them, all the time), and
    `idle` those that nobody did.
    """

    rate: float
    failed: int
    p50: float
    p99: float
    cpu_s: float
    own: float
    idle: float


class Generator:
    """Makes load from one host of a lab against one address; its server runs in the partner."""

    def __init__(self, lab: Lab, folder: Path, options: Options) -> None:
        self.lab = lab
        self.seconds = options.seconds
        self._choices = {options.load_processes} if options.load_processes else {1, PROCESSORS}
        self._program = compile_tunnels(folder)
        forget_connections(lab)
        processes = max(1, max(self._choices) // 2)
        argv = (self._program, f"-{processes}", "serve", str(SERVER_PORT))
        self._server = lab.start("partner", argv, name="server")
        self._server.wait_for_line("ready")

    def tunnels(  # noqa: PLR0913 - a load has these sides
        self,
        what: str,
        host: Host,
        endpoint: tuple[str, int],
        target: str,
        at_once: int,
        *,
        pid: int | None,
        rate: int = 0,
    ) -> Loaded:
        """`open` or `fill`; `pid` is the root of the processes under test, None for none."""
        where = (endpoint[0], str(endpoint[1]), target)
        words = (str(at_once), *((str(rate),) if rate else ()))

        def run(processes: int, seconds: float) -> dict[str, Any]:
            argv = (self._program, f"-{processes}", what, *where, str(seconds), *words)
            done = self.lab.run(host, argv, timeout=seconds + MARGIN_S)
            return dict(json.loads(done.stdout))

        # What is paced, or is a single connection, needs no second process.
        choices = sorted(self._choices) if at_once > 1 and not rate else [min(self._choices)]
        run(choices[0], WARM_S)
        if len(choices) > 1:
            choices.sort(key=lambda processes: float(run(processes, WARM_S)["rate"]))
        meter = Meter(side=pid, server=self._server.pid)
        seen = run(choices[-1], self.seconds)
        return meter.read(
            rate=seen["rate"],
            seconds=self.seconds,
            failed=seen["failed"],
            p50=seen["p50"],
            p99=seen["p99"],
        )

    def requests(  # noqa: PLR0913 - a load has these sides
        self,
        host: Host,
        url: str,
        at_once: int,
        *,
        pid: int,
        server: int,
        script: Path | None = None,
    ) -> Loaded:
        """Wrk, with a script that says what is asked for; `server` is the root of who answers."""
        extra = ("-s", str(script)) if script else ()

        def run(seconds: int) -> str:
            argv = ("wrk", "--latency", "-t1", f"-c{at_once}", f"-d{seconds}s")
            done = self.lab.run(host, (*argv, *extra, url), timeout=seconds + MARGIN_S)
            return done.stdout + done.stderr

        run(1)  # wrk knows whole seconds only
        seconds = max(1, round(self.seconds))
        meter = Meter(side=pid, server=server)
        said = run(seconds)
        found = _WRK_RATE.search(said)
        assert found, said
        times = {q: float(v) * _UNITS[unit] for q, v, unit in _WRK_TIMES.findall(said)}
        return meter.read(
            rate=float(found[1]),
            seconds=seconds,
            failed=said.count("Socket errors"),
            p50=times.get("50", 0.0),
            p99=times.get("99", 0.0),
        )

    def hold(
        self, host: Host, endpoint: tuple[str, int], target: str, counts: list[int]
    ) -> Process:
        """Holds tunnels open; the process says `held COUNT ` at each count."""
        argv = (self._program, "hold", endpoint[0], str(endpoint[1]), target, *map(str, counts))
        return self.lab.start(host, argv, name="hold")

    def wait_for_port(self, host: Host, endpoint: tuple[str, int], limit_s: float = 90.0) -> None:
        """Returns when the port accepts; raises CalledProcessError if it does not in time."""
        argv = (self._program, "wait", endpoint[0], str(endpoint[1]), str(limit_s))
        self.lab.run(host, argv, timeout=limit_s + MARGIN_S)


def compile_tunnels(folder: Path) -> str:
    """Compiles the load generator; returns its path."""
    program = folder / "tunnels"
    if not program.exists():
        subprocess.run(("gcc", "-O2", "-o", str(program), str(SOURCE)), check=True)
    return str(program)


class Meter:
    """What a load takes from the machine, from here on: that of the side, and its own.

    Its own is that of the children waited for meanwhile, and of its server.
    """

    def __init__(self, *, side: int | None, server: int) -> None:
        self._side, self._server = side, server
        self._began = self._observe()

    def read(self, *, rate: float, seconds: float, failed: int, p50: float, p99: float) -> Loaded:
        """What was found, together with what it took; `seconds` the load was to last."""
        passed = zip(self._observe(), self._began, strict=True)
        elapsed_s, cpu_s, own_s, idle_s = (now - then for now, then in passed)
        return Loaded(
            rate=rate,
            failed=failed,
            p50=p50,
            p99=p99,
            cpu_s=max(cpu_s, 1 / TICKS) / max(rate * seconds, 1),
            own=own_s / seconds,
            idle=idle_s / elapsed_s,
        )

    def _observe(self) -> tuple[float, float, float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            time.monotonic(),
            0.0 if self._side is None else observe_cpu_s(self._side),
            observe_cpu_s(self._server) + children.ru_utime + children.ru_stime,
            observe_idle_s(),
        )
