"""DNS mode beside Debian's HAProxy in the originals' style: connections, bytes, memory.

`python -m bench.dns` (root). HAProxy has a file as the originals' script wrote it, and as many
threads as there are processors; ours forwards by either of its data paths. Each is started in its
turn within a round, and loaded on the first of its ports. The limit is bare NAT: a rule of the
kernel's for the one port, which follows no name.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from bench import peers
from bench.load import SERVER_PORT, Generator
from bench.machine import KIB, observe_memory_bytes
from bench.results import LESS, Topic
from bench.run import Options, in_turn, require, run_alone, say, scratch
from bench.scene import AT_ONCE, RATES, Scene, Target
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from egress_router.lab.process import Process

HAPROXY, USERSPACE, KERNEL, BARE = "HAProxy", "userspace", "kernel", "bare NAT"
NAME = "www.partner.test"
RECORDS = tuple(f"{NAME}. 5 IN A {pair.v4}" for pair in ADDRESSES.partners[:2])
FIRST_PORT = 20_000
ENDPOINT = (str(ADDRESSES.pod.v4), FIRST_PORT)
INIT = {
    "EGRESS_ROUTER_MODE": "dns-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24",
    "EGRESS_GATEWAY": "192.168.12.1",
    "EGRESS_CONFLICT": "takeover",
}
PORTS = (1, 10, 100, 1000)
MEMORY = "memory of an idle connection"
# Init's own table stays beside it: it gives what is forwarded the source address.
BARE_NAT = """table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority -105;
    iifname "eth0" tcp dport {port} dnat to {address}:{target}
  }}
}}
"""


def measure(options: Options) -> Topic:
    """All of the module's measures."""
    require(("haproxy", "gcc"))
    topic = Topic(
        name="dns",
        title="DNS mode beside HAProxy",
        sides=(HAPROXY, USERSPACE, KERNEL, BARE),
    )
    with scratch() as folder, Lab(LabSpec(cni=Cni.BRIDGE, family=Family.V4)) as lab:
        lab.start_nameserver(*RECORDS)
        run_init(lab, INIT)
        load = Generator(lab, folder, options)
        scene = Scene(lab=lab, folder=folder, load=load, topic=topic, options=options)
        for ports in PORTS:
            for turn in range(options.rounds):
                say(f"dns: {ports:,} ports, round {turn + 1}")
                for side in in_turn(topic.sides, turn):
                    _measure_side(scene, side, ports)
    return topic


def start_side(scene: Scene, side: str, count: int) -> Process | None:
    """Starts one side with a number of ports; None for the kernel's own NAT."""
    ports = range(FIRST_PORT, FIRST_PORT + count)
    if side == BARE:
        address = ADDRESSES.partner.v4
        text = BARE_NAT.format(port=FIRST_PORT, address=address, target=SERVER_PORT)
        scene.lab.run("pod", ("nft", text))
        return None
    if side == HAPROXY:
        return peers.start_haproxy(scene.lab, scene.folder, ports, NAME, SERVER_PORT)
    lines = scene.folder / "lines.txt"
    text = "\n".join(f"{port} {NAME} {SERVER_PORT}" for port in ports)
    lines.write_text(text, encoding="utf-8")
    environment = {
        "EGRESS_DNS_PROXY_DESTINATION_FILE": str(lines),
        "EGRESS_DNS_PROXY_DATAPATH": side,
        **scene.options.ours,
    }
    wrap = UNPRIVILEGED if side == USERSPACE else ()
    return scene.lab.start_router(("dns",), environment, wrap=wrap)


def _measure_side(scene: Scene, side: str, ports: int) -> None:
    began = time.monotonic()
    process = start_side(scene, side, ports)
    scene.load.wait_for_port("client", ENDPOINT)
    took = time.monotonic() - began
    target = Target(side=side, endpoint=ENDPOINT, process=process)
    if process is not None and side != HAPROXY:
        # What a daemon imports once it serves is none of what a connection costs.
        wait_until_ready(scene.lab, process)
    if process is not None:
        note, at = scene.topic.note, (ports, "ports")
        name = "start to the first connection"
        note(name, side, took, unit="s", better=LESS, at=at)
        memory = observe_memory_bytes(process.pid) / KIB / KIB
        note("memory", side, memory, unit="MiB", better=LESS, at=at)
    if ports == 1 and side in {HAPROXY, USERSPACE} and scene.options.wants(MEMORY):
        scene.hold_connections(MEMORY, target)
    if scene.options.wants("new connections/s"):
        scene.open_connections("new connections/s", target, at=(ports, "ports"))
    if ports == 1:
        _measure_one_port(scene, target)
    if process is not None:
        process.stop()
    else:
        scene.lab.run("pod", ("nft", "delete table ip bench"))


def _measure_one_port(scene: Scene, target: Target) -> None:
    for streams in (1, 4, 64):
        if scene.options.wants("throughput"):
            scene.fill_streams("throughput", target, streams, at=(streams, "streams"))
    for at_once in AT_ONCE:
        name, at = "new connections/s by connections at once", (at_once, "at once")
        if scene.options.wants(name):
            scene.open_connections(name, target, at=at, at_once=at_once)
    for rate in RATES:
        if scene.options.wants("latency"):
            scene.pace_connections("latency of connections", target, rate)


if __name__ == "__main__":
    sys.exit(run_alone(measure, __doc__))
