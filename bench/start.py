"""From the start of a process to its first service: every mode, init, and the peers.

`python -m bench.start` (root). A daemon is ready when its log says so, and serves when its port
takes a connection; `health` asks the admin endpoint, as a probe of the kubelet does. For redirect
mode no port says anything: the kernel has served since init. `CPU` is the processor time of the
process up to then, which a busy machine does not stretch as it does the seconds.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from bench import dns, http, peers
from bench.load import Generator
from bench.machine import observe_cpu_s
from bench.results import LESS, Topic
from bench.run import Options, require, run_alone, say, scratch
from bench.scene import Scene, take_down
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.lab.process import Process

READY = "daemon_ready"
LIMIT_S = 30.0
OURS = "egress router"
INIT = {
    "EGRESS_SOURCE": "192.168.12.99/24",
    "EGRESS_GATEWAY": "192.168.12.1",
    "EGRESS_DESTINATION": f"80 tcp {ADDRESSES.partner.v4}",
}
HTTP = {"EGRESS_HTTP_PROXY_DESTINATION": http.NAME}
DNS = {"EGRESS_DNS_PROXY_DESTINATION": f"{dns.FIRST_PORT} {dns.NAME} 80"}
MODES: tuple[tuple[str, dict[str, str]], ...] = (("redirect", {}), ("http", HTTP), ("dns", DNS))
HTTP_PORT, SQUID_PORT, TINYPROXY_PORT = 8080, 8081, 8083


def measure(options: Options) -> Topic:
    """All of the module's measures."""
    require(("squid", "tinyproxy", "haproxy", "conntrack", "gcc"))
    topic = Topic(
        name="start", title="Start to ready", sides=(OURS, "Squid", "tinyproxy", "HAProxy")
    )
    with scratch() as folder, Lab(LabSpec(cni=Cni.BRIDGE, family=Family.V4)) as lab:
        lab.start_nameserver(f"{http.NAME}. 60 IN A {ADDRESSES.partner.v4}", *dns.RECORDS)
        load = Generator(lab, folder, options)
        scene = Scene(lab=lab, folder=folder, load=load, topic=topic, options=options)
        for turn in range(options.rounds):
            say(f"start: round {turn + 1} of {options.rounds}")
            _time_init(scene)
            for mode, environment in MODES:
                _time_ready(scene, mode, environment)
            _time_ports(scene)
        peers.remove_squid_files()
    return topic


def _time_init(scene: Scene) -> None:
    lab, note = scene.lab, scene.topic.note
    environment = {**INIT, **scene.options.ours}
    for name, more in (
        ("init", {}),
        ("init, EGRESS_CONFLICT=takeover", {"EGRESS_CONFLICT": "takeover"}),
    ):
        take_down(lab)
        before = os.times()
        took = run_init(lab, {**environment, **more})
        after = os.times()
        cpu_s = after.children_user - before.children_user
        cpu_s += after.children_system - before.children_system
        note(name, OURS, took, unit="s", better=LESS)
        note(f"{name}: CPU", OURS, cpu_s, unit="s", better=LESS)


def _time_ready(scene: Scene, mode: str, environment: dict[str, str]) -> None:
    note = scene.topic.note
    began = time.monotonic()
    words = {**environment, **scene.options.ours}
    process = scene.lab.start_router((mode,), words, wrap=UNPRIVILEGED)
    process.wait_for_line(READY, LIMIT_S)
    note(f"{mode} mode, ready", OURS, time.monotonic() - began, unit="s", better=LESS)
    cpu_s = observe_cpu_s(process.pid)
    note(f"{mode} mode, ready: CPU", OURS, cpu_s, unit="s", better=LESS)
    wait_until_ready(scene.lab, process, LIMIT_S)
    took = time.monotonic() - began
    note(f"{mode} mode, health agrees", OURS, took, unit="s", better=LESS)
    process.stop()


def _time_ports(scene: Scene) -> None:
    """The same question to all, in turn: when does the port take a connection?"""
    lab, folder = scene.lab, scene.folder

    def ours(mode: str, environment: dict[str, str]) -> Process:
        words = {**environment, **scene.options.ours}
        return lab.start_router((mode,), words, wrap=UNPRIVILEGED)

    ports = range(dns.FIRST_PORT, dns.FIRST_PORT + 1)
    sides: tuple[tuple[str, str, int, Callable[[], Process]], ...] = (
        ("HTTP", OURS, HTTP_PORT, lambda: ours("http", HTTP)),
        ("HTTP", "Squid", SQUID_PORT, lambda: peers.start_squid(lab, folder, SQUID_PORT)),
        (
            "HTTP",
            "tinyproxy",
            TINYPROXY_PORT,
            lambda: peers.start_tinyproxy(lab, folder, TINYPROXY_PORT),
        ),
        ("DNS mode's", OURS, dns.FIRST_PORT, lambda: ours("dns", DNS)),
        (
            "DNS mode's",
            "HAProxy",
            dns.FIRST_PORT,
            lambda: peers.start_haproxy(lab, folder, ports, dns.NAME, 80),
        ),
    )
    for what, side, port, start in sides:
        began = time.monotonic()
        process = start()
        scene.load.wait_for_port("client", (http.POD, port))
        took = time.monotonic() - began
        name = f"{what} port, first connection"
        scene.topic.note(name, side, took, unit="s", better=LESS)
        process.stop()


if __name__ == "__main__":
    sys.exit(run_alone(measure, __doc__))
