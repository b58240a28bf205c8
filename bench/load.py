"""The load: `tunnels`, compiled at the start of a run, and wrk for requests that keep alive."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import TICKS, observe_cpu_s

if TYPE_CHECKING:
    from egress_router.lab.process import Process
    from egress_router.lab.spec import Host
    from egress_router.lab.world import Lab

SOURCE = Path(__file__).with_name("tunnels.c")
MARGIN_S = 60.0
SERVER_PORT = 7000
_WRK_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
_WRK_TIMES = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What one load found. `rate` is of things or bytes a second, `p50` and `p99` are ms.

    `cpu_s` is the processor time of the side under test, for each thing or byte; `own` the
    processors that the load and its server took meanwhile (1.0: one of them, all the time).
    """

    rate: float
    failed: int
    p50: float
    p99: float
    cpu_s: float
    own: float


class Generator:
    """Makes load from one host of a lab against one address; its server runs in the partner."""

    def __init__(self, lab: Lab, folder: Path, seconds: float) -> None:
        self.lab = lab
        self.seconds = seconds
        self._program = compile_tunnels(folder)
        argv = (self._program, "serve", str(SERVER_PORT))
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
        argv = (self._program, what, *where, str(self.seconds), str(at_once))
        before, served = _cpu(pid), observe_cpu_s(self._server.pid)
        words = (*argv, str(rate)) if rate else argv
        done = self.lab.run(host, words, timeout=self.seconds + MARGIN_S)
        seen = json.loads(done.stdout)
        own_s = seen["own_cpu_s"] + observe_cpu_s(self._server.pid) - served
        return _loaded(
            seen["rate"],
            self.seconds,
            _cpu(pid) - before,
            own_s,
            failed=seen["failed"],
            p50=seen["p50"],
            p99=seen["p99"],
        )

    def requests(
        self, host: Host, url: str, at_once: int, *, pid: int, script: Path | None = None
    ) -> Loaded:
        """Wrk, with a script that says what is asked for."""
        extra = ("-s", str(script)) if script else ()
        seconds = max(1, round(self.seconds))  # wrk knows whole ones only
        argv = ("wrk", "--latency", "-t1", f"-c{at_once}", f"-d{seconds}s", *extra, url)
        before = _cpu(pid)
        done = self.lab.run(host, argv, timeout=seconds + MARGIN_S)
        found = _WRK_RATE.search(done.stdout)
        assert found, done.stdout + done.stderr
        times = {q: float(v) * _UNITS[unit] for q, v, unit in _WRK_TIMES.findall(done.stdout)}
        return _loaded(
            float(found[1]),
            seconds,
            _cpu(pid) - before,
            0.0,
            failed=done.stdout.count("Socket errors"),
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


def _loaded(  # noqa: PLR0913 - see Loaded
    rate: float,
    seconds: float,
    cpu_s: float,
    own_s: float,
    *,
    failed: int,
    p50: float,
    p99: float,
) -> Loaded:
    count = max(rate * seconds, 1)
    return Loaded(
        rate=rate,
        failed=failed,
        p50=p50,
        p99=p99,
        cpu_s=max(cpu_s, 1 / TICKS) / count,
        own=own_s / seconds,
    )


def _cpu(pid: int | None) -> float:
    return 0.0 if pid is None else observe_cpu_s(pid)
