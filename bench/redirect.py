"""Redirect mode: how long set-up takes, and what 5,000 destinations cost beside one.

`python -m bench.redirect` (root; wrk and nginx from Debian). The client runs wrk with a connection
per request, the partner nginx, so that neither end is Python; the pod translates between them. Both
sides of a comparison alternate within one run, and the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT = {"EGRESS_SOURCE": "192.168.12.99/24", "EGRESS_GATEWAY": "192.168.12.1"}
TAKEOVER = {"EGRESS_CONFLICT": "takeover"}
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 80 backlog=4096; return 200 "ok"; }} }}
"""
RATE = re.compile(r"Requests/sec:\s*([\d.]+)")


def main() -> int:
    """Prints one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.redirect")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load per round and side")
    options = parser.parse_args()
    if missing := [tool for tool in ("wrk", "nginx") if shutil.which(tool) is None]:
        sys.exit(f"missing: {', '.join(missing)} (Debian packages wrk, nginx-light)")
    with TemporaryDirectory() as folder, Lab(LabSpec(cni=Cni.BRIDGE, family=Family.V4)) as lab:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder), encoding="utf-8")
        lab.start("partner", ["nginx", "-c", str(config)])
        lists = {count: Path(folder) / f"{count}.txt" for count in (1, 5000, 10_000)}
        for count, path in lists.items():
            path.write_text(destinations(count), encoding="utf-8")
        rows = [*_setup_rows(lab, lists, options.rounds), *_rate_rows(lab, lists, options)]
    print("| measure | min | median | max |\n| --- | --- | --- | --- |")
    for name, values in rows:
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"| {name} | {low:.3f} | {middle:.3f} | {high:.3f} |")
    return 0


def destinations(count: int) -> str:
    """`count` lines; the first is the one under load."""
    partner = ADDRESSES.partner.v4
    others = (f"{port} tcp {partner} 80" for port in range(2001, 2000 + count))
    return "\n".join((f"80 tcp {partner}", *others))


def _environment(path: Path) -> dict[str, str]:
    # By file: one variable of a Linux process holds 128 KiB, some 5,000 lines.
    return {**ENVIRONMENT, "EGRESS_DESTINATION_FILE": str(path)}


def _setup_rows(lab: Lab, lists: dict[int, Path], rounds: int) -> list[tuple[str, list[float]]]:
    one, many = lists[1], lists[10_000]

    def init(path: Path, extra: dict[str, str]) -> Callable[[], object]:
        return lambda: lab.router(("init",), {**_environment(path), **extra})

    def check() -> object:
        return lab.router(("check",), _environment(many))

    def fresh() -> None:
        lab.run("pod", ["ip", "addr", "flush", "dev", "macvlan0"])
        lab.run("pod", ["ip", "link", "set", "macvlan0", "down"])

    return [
        ("init, claim without conflict, s", [_timed(init(one, {}), fresh) for _ in range(rounds)]),
        ("init, takeover, s", [_timed(init(one, TAKEOVER), fresh) for _ in range(rounds)]),
        ("init, nothing to do, s", [_timed(init(one, TAKEOVER)) for _ in range(rounds)]),
        ("check, 10,000 lines, s", [_timed(check) for _ in range(rounds)]),
        (
            "init, takeover, 10,000 lines, s",
            [_timed(init(many, TAKEOVER), fresh) for _ in range(rounds)],
        ),
    ]


def _rate_rows(
    lab: Lab, lists: dict[int, Path], options: argparse.Namespace
) -> list[tuple[str, list[float]]]:
    counts = (1, 5000)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count in counts:
            lab.router(("init",), {**_environment(lists[count]), **TAKEOVER})
            rates[count].append(_load(lab, options.seconds))
    ratios = [many / one for one, many in zip(rates[1], rates[5000], strict=True)]
    return [
        ("new connections/s, 1 destination", rates[1]),
        ("new connections/s, 5,000 destinations", rates[5000]),
        ("ratio, 5,000 to 1", ratios),
    ]


def _load(lab: Lab, seconds: float) -> float:
    argv = ["wrk", "-t1", "-c32", f"-d{seconds:g}s", "-H", "Connection: close"]
    done = lab.run("client", [*argv, f"http://{ADDRESSES.pod.v4}/"], timeout=seconds + 30)
    found = RATE.search(done.stdout)
    if found is None:
        sys.exit(f"wrk said nothing of a rate:\n{done.stdout}{done.stderr}")
    return float(found[1])


def _timed(work: Callable[[], object], before: Callable[[], None] | None = None) -> float:
    if before is not None:
        before()
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
