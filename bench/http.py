"""HTTP mode beside Debian's Squid, configured as the original image's, and tinyproxy.

`python -m bench.http` (root; squid, tinyproxy, nginx, wrk of Debian). All proxies run in the same
pod of one lab and serve the same client and partner in turns; the ratio of two neighbours in one
round is what counts, because the machine's own speed moves more than they differ. Processor time is
that of the proxy's processes alone. Ours writes its decision lines all the while, as it does by
default; Squid writes none, as the original, or its access log (`squid, log`).
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
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.runner import run_init, start_daemon
from egress_router.lab.spec import Family, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process

INIT = {
    "EGRESS_ROUTER_MODE": "http-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24",
    "EGRESS_GATEWAY": "192.168.12.1",
    "EGRESS_PROBE_SECONDS": "0.1",
}
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000; sendfile on;
  server {{ listen 80 backlog=4096; root {folder}; location = /small {{ return 200 "ok"; }} }} }}
"""
# The original image's head and tail around the rules of its list.
SQUID = """
http_port {port}
acl to_partner dstdomain web.test
http_access allow to_partner
http_access deny all
cache deny all
access_log {log}
cache_log /dev/null
debug_options ALL,0
shutdown_lifetime 0 seconds
pid_filename none
coredump_dir {folder}
visible_hostname router
pinger_enable off
netdb_filename none
max_filedescriptors 16384
acl all_ports port 1-65535
"""
TINYPROXY = """
Port {port}
Timeout 600
MaxClients 8000
LogLevel Critical
DisableViaHeader Yes
"""
LUA = 'local r = "{request}"\nfunction request() return r end\n'
GET = "GET http://web.test{path} HTTP/1.1\\r\\nHost: web.test\\r\\n{fields}\\r\\n"
WRK_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
WRK_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
BIG_BYTES = 1 << 20
LOAD = str(Path(__file__).with_name("http_load.py"))
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One of those that are compared."""

    name: str
    port: int
    process: Process


@dataclass(slots=True)
class Table:
    """All values by measure and proxy, in the order of rounds."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, measure: str, proxy: str, value: float) -> None:
        """Adds one."""
        self.values.setdefault(measure, {}).setdefault(proxy, []).append(value)

    def render(self) -> str:
        """Markdown: median with lowest and highest, and the median of ours to each other one."""
        rows = ["| measure | proxy | median | min | max | ours / it |", "|---|---|---|---|---|---|"]
        for measure, by_proxy in self.values.items():
            ours = by_proxy["egress router"]
            for name, found in by_proxy.items():
                ratios = [mine / its for mine, its in zip(ours, found, strict=False) if its]
                shown = f"{statistics.median(ratios):.2f}" if ratios else ""
                middle = statistics.median(found)
                rows.append(
                    f"| {measure} | {name} | {middle:.4g} | {min(found):.4g} | {max(found):.4g}"
                    f" | {'' if name == 'egress router' else shown} |"
                )
        return "\n".join(rows)


def main() -> int:
    """Prints one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.http")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load per measurement")
    parser.add_argument("--only", default="", help="measures whose name holds this")
    parser.add_argument("--without", default="", help="a proxy to leave out, such as tinyproxy")
    parser.add_argument("--idle", type=int, nargs="*", default=[1000, 5000])
    options = parser.parse_args()
    tools = ("squid", "tinyproxy", "nginx", "wrk")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        sys.exit(f"not found on this machine: {', '.join(missing)}")
    table = Table()
    with TemporaryDirectory(prefix="bench-http-") as folder, Lab(LabSpec(family=Family.V4)) as lab:
        Path(folder).chmod(0o777)  # Squid and nginx give up root
        _start_partner(lab, Path(folder))
        started = _start_proxies(lab, Path(folder))
        proxies = [proxy for proxy in started if proxy.name != options.without]
        for _ in range(options.rounds):
            for measure, run in _measures(lab, Path(folder), options.seconds).items():
                if options.only in measure:
                    for proxy in proxies:
                        run(proxy, measure, table)
            print(".", end="", file=sys.stderr, flush=True)
        if options.only in "idle":
            for proxy in proxies:
                _hold(lab, proxy, options.idle, table)
    for left in Path("/dev/shm").glob(f"egr{os.getpid()}*"):  # noqa: S108 - Squid's, with our name
        left.unlink()
    print(table.render())
    return 0


def _start_partner(lab: Lab, folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(BIG_BYTES))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder), encoding="utf-8")
    lab.start_nameserver(f"web.test. 3600 IN A {ADDRESSES.partner.v4}")
    lab.start("partner", ("nginx", "-c", str(folder / "nginx.conf")))
    lab.start("partner", (sys.executable, LOAD, "serve", "7000"), name="load").wait_for_line(
        "ready"
    )


def _start_proxies(lab: Lab, folder: Path) -> tuple[Proxy, ...]:
    run_init(lab, INIT)
    ours = start_daemon(lab, "http", {"EGRESS_HTTP_PROXY_DESTINATION": "web.test"})
    proxies = [Proxy(name="egress router", port=8080, process=ours)]
    for name, port, log in (("squid", 8081, "none"), ("squid, log", 8082, f"{folder}/access.log")):
        config = folder / f"{port}.conf"
        config.write_text(SQUID.format(port=port, log=log, folder=folder), encoding="utf-8")
        argv = ("squid", "-n", f"egr{os.getpid()}x{port}", "-N", "-f", str(config))
        proxies.append(Proxy(name=name, port=port, process=lab.start("pod", argv)))
    config = folder / "tinyproxy.conf"
    config.write_text(TINYPROXY.format(port=8083), encoding="utf-8")
    tiny = lab.start("pod", ("tinyproxy", "-d", "-c", str(config)))
    proxies.append(Proxy(name="tinyproxy", port=8083, process=tiny))
    for proxy in proxies:
        ask = ("curl", "-sS", "--retry", "40", "--retry-connrefused", "--retry-delay", "1")
        url = "http://web.test/small"
        said = lab.run("client", (*ask, "-p", "-x", _address(proxy), url), timeout=60).stdout
        assert said == "ok", f"{proxy.name}: {said}"
    return tuple(proxies)


def _address(proxy: Proxy) -> str:
    return f"http://{ADDRESSES.pod.v4}:{proxy.port}"


def _measures(
    lab: Lab, folder: Path, seconds: float
) -> dict[str, Callable[[Proxy, str, Table], None]]:
    def load(what: str, target: str, at_once: int, scale: float) -> Callable[..., None]:
        def run(proxy: Proxy, measure: str, table: Table) -> None:
            argv = (sys.executable, LOAD, what, str(ADDRESSES.pod.v4), str(proxy.port), target)
            limits = ("--seconds", str(seconds), "--at-once", str(at_once))
            before = _cpu_s(proxy)
            done = lab.run("client", (*argv, *limits), timeout=seconds + 60)
            seen = json.loads(done.stdout)
            _note(table, measure, proxy, seen, _cpu_s(proxy) - before, scale, seconds)

        return run

    def plain(path: str, fields: str, at_once: int) -> Callable[..., None]:
        def run(proxy: Proxy, measure: str, table: Table) -> None:
            script = folder / "request.lua"
            script.write_text(LUA.format(request=GET.format(path=path, fields=fields)))
            argv = ("wrk", "--latency", "-t1", f"-c{at_once}", f"-d{seconds:g}s", "-s", str(script))
            before = _cpu_s(proxy)
            done = lab.run("client", (*argv, _address(proxy) + "/"), timeout=seconds + 60)
            found = WRK_RATE.search(done.stdout)
            assert found, done.stdout + done.stderr
            seen: dict[str, Any] = {"rate": float(found[1])}
            for quantile, value, unit in WRK_LATENCY.findall(done.stdout):
                seen[f"p{quantile}"] = float(value) * UNITS[unit]
            _note(table, measure, proxy, seen, _cpu_s(proxy) - before, 1, seconds)

        return run

    return {
        "CONNECT/s": load("connect", "web.test:80", 32, 1),
        "tunnel GB/s, 1 stream": load("bulk", "web.test:7000", 1, 1e9),
        "tunnel GB/s, 4 streams": load("bulk", "web.test:7000", 4, 1e9),
        "tunnel GB/s, 64 streams": load("bulk", "web.test:7000", 64, 1e9),
        "keep-alive requests/s": plain("/small", "", 32),
        "requests/s, a connection each": plain("/small", "Connection: close\\r\\n", 32),
        "1 MB bodies/s": plain("/big", "", 8),
    }


def _note(  # noqa: PLR0913, PLR0917 - one measurement has these sides
    table: Table,
    measure: str,
    proxy: Proxy,
    seen: dict[str, Any],
    cpu_s: float,
    scale: float,
    seconds: float,
) -> None:
    rate = seen["rate"] / scale
    table.note(measure, proxy.name, rate)
    table.note(f"{measure}: per CPU second", proxy.name, rate * seconds / max(cpu_s, 1 / TICKS))
    for quantile in ("p50", "p99"):
        if quantile in seen:
            table.note(f"{measure}: {quantile}, ms", proxy.name, seen[quantile])


def _hold(lab: Lab, proxy: Proxy, counts: list[int], table: Table) -> None:
    before = _resident_bytes(proxy)
    argv = (sys.executable, LOAD, "hold", str(ADDRESSES.pod.v4), str(proxy.port), "web.test:7000")
    tail = ("--seconds", "2", "--counts", *map(str, counts))
    holder = lab.start("client", (*argv, *tail), name="hold")
    try:
        for count in counts:
            try:
                holder.wait_for_line(f"held {count} ", 120)
            except RuntimeError as ended:
                print(f"{proxy.name}: {ended}", file=sys.stderr)
                return
            time.sleep(0.5)
            each = (_resident_bytes(proxy) - before) / count / 1024
            table.note(f"memory of each of {count} idle tunnels, KiB", proxy.name, each)
    finally:
        holder.stop()


def _cpu_s(proxy: Proxy) -> float:
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text(encoding="ascii")
    user, system = fields.rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / TICKS


def _resident_bytes(proxy: Proxy) -> int:
    statm = Path(f"/proc/{proxy.process.pid}/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
