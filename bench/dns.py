"""DNS mode beside Debian's HAProxy in the originals' style: connections, bytes, memory.

`python -m bench.dns` (root; wrk, nginx and haproxy from Debian). All of them run in the
same namespaces, in turn within each round, and are loaded by wrk in the client, with nginx in the
partner, so that neither end is Python. The median of the ratios of each round counts.
`--soak` instead keeps calling at 100 connections a second for a minute without any nameserver.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import idle
from egress_router.lab import caller
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import BARE_PYTHON, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process

NAME = "www.partner.test"
RECORDS = tuple(f"{NAME}. 5 IN A {pair.v4}" for pair in ADDRESSES.partners[:2])
INIT = {
    "EGRESS_ROUTER_MODE": "dns-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24",
    "EGRESS_GATEWAY": "192.168.12.1",
    "EGRESS_CONFLICT": "takeover",
}
# Debian 13's HAProxy and this one take the same file; the originals wrote its like.
HAPROXY = """
global
    log 127.0.0.1 local2
    maxconn 4000
defaults
    log global
    mode tcp
    option dontlognull
    option tcplog
    option redispatch
    retries 3
    timeout queue 1m
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout check 10s
resolvers dns
    nameserver ns {nameserver}:53
    resolve_retries 3
    timeout retry 1s
    hold valid 10s
"""
HAPROXY_PORT = """
frontend fe{port}
    bind :{port}
    default_backend be{port}
backend be{port}
    server-template dest 2 {name}:{target} check resolvers dns resolve-prefer ipv4
"""
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{ access_log off; sendfile on; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 80 backlog=4096; location = / {{ return 200 "ok"; }}
            location = /bulk {{ root {folder}; }} }} }}
"""
BULK_BYTES = 256 << 20
RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
TRANSFER = re.compile(r"Transfer/sec:\s*([\d.]+)([KMG]?)B")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


FIRST_PORT = 20_000
SOAK_RATE, SOAK_S = 100, 60  # what the mode owes: without any nameserver, none of them fails
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One forwarder: its name, and how it is started with a number of ports."""

    name: str
    start: Callable[..., Process]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of wrk: its figure, and the CPU seconds that the forwarder took meanwhile."""

    figure: float
    cpu_s: float


def main() -> int:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.dns")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load per round and side")
    parser.add_argument("--ports", type=int, nargs="*", default=[1, 100, 1000])
    parser.add_argument("--idle", type=int, default=2000, help="connections held open")
    parser.add_argument("--side", action="append", choices=[side.name for side in SIDES])
    parser.add_argument("--soak", action="store_true", help="a minute without nameservers")
    options = parser.parse_args()
    needed = ("wrk", "nginx", "haproxy")
    if missing := [tool for tool in needed if shutil.which(tool) is None]:
        sys.exit(f"missing: {', '.join(missing)} (Debian: wrk nginx-light haproxy)")
    sides = [side for side in SIDES if not options.side or side.name in options.side]
    with TemporaryDirectory() as name, Lab(LabSpec(cni=Cni.BRIDGE, family=Family.V4)) as lab:
        folder = Path(name)
        start_partner(lab, folder)
        lab.start_nameserver(*RECORDS)
        run_init(lab, INIT)
        if options.soak:
            return soak(lab, folder, options.side or ["userspace"])
        for count in options.ports:
            print(f"\n{count} ports, {options.rounds} rounds of {options.seconds:g} s\n")
            measure(lab, folder, sides, count, options)
    return 0


def soak(lab: Lab, folder: Path, names: list[str]) -> int:
    """100 connections a second for a minute with every nameserver dead; 0 if all succeeded."""
    lab.start_partner(tcp=(81,))
    failed = 0
    for side in SIDES:
        if side.name not in names:
            continue
        daemon = side.start(lab, folder, 1, target=81)
        lab.process("nameserver").stop()
        argv = (str(ADDRESSES.pod.v4), str(FIRST_PORT), str(SOAK_RATE), str(SOAK_S))
        call = lab.start("client", (*BARE_PYTHON, caller.__file__, *argv), name="caller")
        call.wait(SOAK_S + 30)
        called = json.loads(call.output())
        slow = sorted(called["latencies"])[-len(called["latencies"]) // 100 or -1]
        errors = Counter(called["errors"])
        print(f"{side.name}: {called['calls']} calls, {dict(errors) or 'none failed'}, by server")
        print(f"{called['servers']}, 99th percentile {slow * 1000:.0f} ms", flush=True)
        failed += len(called["errors"])
        daemon.stop()
        lab.start_nameserver(*RECORDS)
    return 1 if failed else 0


def start_partner(lab: Lab, folder: Path) -> None:
    """Nginx on every address of the partner: a short answer, and a long one."""
    folder.chmod(0o755)
    with (folder / "bulk").open("wb") as bulk:
        bulk.truncate(BULK_BYTES)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder), encoding="utf-8")
    lab.start("partner", ["nginx", "-c", str(config)])


def start_haproxy(lab: Lab, folder: Path, count: int, target: int = 80) -> Process:
    """HAProxy with a frontend and a backend for each port, as the originals' script wrote them."""
    config = folder / "haproxy.cfg"
    text = HAPROXY.format(nameserver=ADDRESSES.dns.v4)
    ports = range(FIRST_PORT, FIRST_PORT + count)
    text += "".join(HAPROXY_PORT.format(port=port, name=NAME, target=target) for port in ports)
    config.write_text(text, encoding="utf-8")
    return lab.start("pod", ["haproxy", "-db", "-f", str(config)])


def start_dns(datapath: str, wrap: tuple[str, ...]) -> Callable[..., Process]:
    """The daemon with a line for each port."""

    def start(lab: Lab, folder: Path, count: int, target: int = 80) -> Process:
        lines = folder / "lines.txt"
        ports = range(FIRST_PORT, FIRST_PORT + count)
        lines.write_text("\n".join(f"{port} {NAME} {target}" for port in ports), encoding="utf-8")
        environment = {
            "EGRESS_DNS_PROXY_DESTINATION_FILE": str(lines),
            "EGRESS_DNS_PROXY_DATAPATH": datapath,
        }
        daemon = lab.start_router(("dns",), environment, wrap=wrap)
        wait_until_ready(lab, daemon)
        return daemon

    return start


SIDES = (
    Side(name="HAProxy", start=start_haproxy),
    Side(name="userspace", start=start_dns("userspace", UNPRIVILEGED)),
    Side(name="kernel", start=start_dns("kernel", ())),
)


def measure(
    lab: Lab, folder: Path, sides: list[Side], count: int, options: argparse.Namespace
) -> None:
    """Loads every side in each round and prints what came of it."""
    rates: dict[str, list[Load]] = {side.name: [] for side in sides}
    bulk: dict[str, list[Load]] = {side.name: [] for side in sides}
    started: dict[str, list[float]] = {side.name: [] for side in sides}
    memory: dict[str, list[int]] = {side.name: [] for side in sides}
    held: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            before = time.monotonic()
            process = side.start(lab, folder, count)
            wait_for_port(lab)
            started[side.name].append(time.monotonic() - before)
            memory[side.name].append(observe_memory(process.pid))
            if side.name != "kernel":
                held[side.name].append(measure_idle(lab, process, options.idle))
            rates[side.name].append(load(lab, process, options.seconds))
            bulk[side.name].append(load(lab, process, options.seconds, bulk=True))
            process.stop()
    print("| measure | " + " | ".join(side.name for side in sides) + " |")
    print("| --- |" + " --- |" * len(sides))
    print_row("new connections/s", [[x.figure for x in rates[s.name]] for s in sides], "{:.0f}")
    print_ratios("ratio to HAProxy", [[x.figure for x in rates[s.name]] for s in sides])
    cpu = [[x.cpu_s / (x.figure * options.seconds) * 1e6 for x in rates[s.name]] for s in sides]
    print_row("CPU per connection, us", cpu, "{:.0f}")
    print_row("throughput, MB/s", [[x.figure / 1e6 for x in bulk[s.name]] for s in sides], "{:.0f}")
    print_ratios("ratio to HAProxy", [[x.figure for x in bulk[s.name]] for s in sides])
    cpu = [[x.cpu_s / (x.figure * options.seconds) * 1e9 for x in bulk[s.name]] for s in sides]
    print_row("CPU per GB, s", cpu, "{:.2f}")
    print_row("memory per idle connection, KiB", [held[s.name] for s in sides], "{:.1f}")
    print_row("memory, MiB", [[x / 2**20 for x in memory[s.name]] for s in sides], "{:.0f}")
    print_row("start to first connection, s", [started[s.name] for s in sides], "{:.2f}")


def print_row(title: str, columns: list[list[float]], form: str) -> None:
    """Medians."""
    cells = [form.format(statistics.median(values)) if values else "-" for values in columns]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def print_ratios(title: str, columns: list[list[float]]) -> None:
    """Medians, with the least and the greatest, of the ratios of each round to the first side."""
    cells = []
    for values in columns:
        ratios = [value / base for value, base in zip(values, columns[0], strict=True)]
        middle = statistics.median(ratios)
        cells.append(f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def wait_for_port(lab: Lab) -> None:
    """Returns when the port under load accepts."""
    argv = (*BARE_PYTHON, idle.__file__, str(ADDRESSES.pod.v4), str(FIRST_PORT), "0")
    lab.run("client", argv, timeout=100)


def measure_idle(lab: Lab, process: Process, count: int) -> float:
    """KiB of the forwarder's memory for each of many idle connections."""
    before = observe_memory(process.pid)
    argv = (*BARE_PYTHON, idle.__file__, str(ADDRESSES.pod.v4), str(FIRST_PORT), str(count))
    holder = lab.start("client", argv, name="idle")
    holder.wait_for_line("ready", 30)
    time.sleep(0.5)  # for the last of them to reach the partner
    grown = observe_memory(process.pid) - before
    holder.stop()
    time.sleep(0.5)  # and for their ends
    return grown / count / 1024


def load(lab: Lab, process: Process, seconds: float, *, bulk: bool = False) -> Load:
    """New connections a second, or bytes a second."""
    url = f"http://{ADDRESSES.pod.v4}:{FIRST_PORT}/{'bulk' if bulk else ''}"
    header = () if bulk else ("-H", "Connection: close")
    connections = "4" if bulk else "32"
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", *header, url]
    before = observe_cpu(process.pid)
    done = lab.run("client", argv, timeout=seconds + 30)
    cpu_s = observe_cpu(process.pid) - before
    found = (TRANSFER if bulk else RATE).search(done.stdout)
    if found is None or (not bulk and "Socket errors" in done.stdout):
        print(done.stdout, done.stderr, file=sys.stderr)
    if found is None:
        sys.exit("wrk gave no figure")
    unit = UNITS[found[2]] if bulk else 1
    return Load(figure=float(found[1]) * unit, cpu_s=cpu_s)


def observe_cpu(pid: int) -> float:
    """CPU seconds of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def observe_memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
