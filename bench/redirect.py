"""Redirect mode beside the originals' way: set-up, and what many destinations cost.

`python -m bench.redirect` (root). Two labs of the same shape stand side by side: in one our init,
in the other `original_redirect.sh`, which writes a rule for each destination. They take turns. With
one destination its table is the kernel's bare NAT, two translations and nothing else, and so a
limit; the other limit is a direct connection from the pod, without the client's hops.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.load import SERVER_PORT, Generator
from bench.results import LESS, Topic
from bench.run import Options, in_turn, require, run_alone, say, scratch
from bench.scene import RATES, Scene, Target, take_down
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from egress_router.lab.spec import Host

ORIGINAL, OURS, DIRECT = "rule per port", "egress router", "direct"
SCRIPT = Path(__file__).with_name("original_redirect.sh")
POD, PARTNER = str(ADDRESSES.pod.v4), str(ADDRESSES.partner.v4)
SOURCE, GATEWAY = str(ADDRESSES.source.v4), str(ADDRESSES.gateway.v4)
# By default the address is asked for first, for 0.2 s, which the original never did.
INITS: tuple[tuple[str, dict[str, str]], ...] = (
    ("init", {}),
    ("init, EGRESS_CONFLICT=takeover", {"EGRESS_CONFLICT": "takeover"}),
)
COUNTS = (1, 100, 1_000, 10_000)
FIRST_OTHER = 20_000  # the other destinations' ports; the one under load is the last in the list
FORWARDING = "net.ipv4.ip_forward=1"


def measure(options: Options) -> Topic:
    """All of the module's measures."""
    require(("nft", "arping", "conntrack", "gcc"))
    topic = Topic(
        name="redirect",
        title="Redirect mode beside a rule per port",
        sides=(ORIGINAL, OURS, DIRECT),
    )
    spec = LabSpec(cni=Cni.BRIDGE, family=Family.V4)
    with scratch() as folder, Lab(spec) as ours, Lab(spec) as original:
        original.run("pod", ("sysctl", "-qw", FORWARDING))
        scenes = {
            side: Scene(
                lab=lab,
                folder=folder,
                load=Generator(lab, folder, options),
                topic=topic,
                options=options,
            )
            for side, lab in ((ORIGINAL, original), (OURS, ours))
        }
        for count in COUNTS:
            path = folder / f"{count}.txt"
            path.write_text(destinations(count), encoding="utf-8")
            for turn in range(options.rounds):
                say(f"redirect: {count:,} destinations, round {turn + 1}")
                for side, scene in in_turn(tuple(scenes.items()), turn):
                    _set_up(scene, side, path, count)
                    _load(scene, side, count)
                if count == 1:
                    _load_direct(scenes[ORIGINAL])
    return topic


def destinations(count: int) -> str:
    """`count` lines; the last is the one under load, as a list grows at its end."""
    others = (f"{FIRST_OTHER + number} tcp {PARTNER} 80" for number in range(count - 1))
    return "\n".join((*others, f"{SERVER_PORT} tcp {PARTNER}", ""))


def _set_up(scene: Scene, side: str, path: Path, count: int) -> None:
    """Sets a pod up and notes how long it took; what the last turn left is taken away before."""
    lab = scene.lab
    take_down(lab)
    at = (count, "destinations")
    if side == ORIGINAL:
        lab.run("pod", ("ip", "route", "flush", "root", "10.128.0.0/14", "via", "10.128.0.1"))
        words = {"EGRESS_SOURCE": SOURCE, "EGRESS_GATEWAY": GATEWAY, "DESTINATIONS": str(path)}
        began = time.monotonic()
        lab.run("pod", ("sh", str(SCRIPT)), words, timeout=120)
        took = time.monotonic() - began
        for name, _ in INITS:
            scene.topic.note(name, side, took, unit="s", better=LESS, at=at)
        return
    environment = {
        "EGRESS_SOURCE": f"{SOURCE}/24",
        "EGRESS_GATEWAY": GATEWAY,
        "EGRESS_DESTINATION_FILE": str(path),  # by file: a variable holds 128 KiB, 5,000 lines
        **scene.options.ours,
    }
    for name, more in INITS:
        take_down(lab)
        began = time.monotonic()
        lab.router(("init",), {**environment, **more})
        took = time.monotonic() - began
        scene.topic.note(name, side, took, unit="s", better=LESS, at=at)


def _load(scene: Scene, side: str, count: int) -> None:
    target = Target(side=side, endpoint=(POD, SERVER_PORT))
    if scene.options.wants("new connections/s"):
        scene.open_connections("new connections/s", target, at=(count, "destinations"))
    if count == 1:
        _load_one(scene, target)


def _load_direct(scene: Scene) -> None:
    target = Target(side=DIRECT, endpoint=(PARTNER, SERVER_PORT))
    if scene.options.wants("new connections/s"):
        at = (1, "destinations")
        scene.open_connections("new connections/s", target, host="pod", at=at)
    _load_one(scene, target, "pod")


def _load_one(scene: Scene, target: Target, host: Host = "client") -> None:
    for streams in (1, 4, 64):
        if scene.options.wants("throughput"):
            at = (streams, "streams")
            scene.fill_streams("throughput", target, streams, host=host, at=at)
    for rate in RATES if host == "client" else ():
        if scene.options.wants("latency"):
            scene.pace_connections("latency of connections", target, rate)


if __name__ == "__main__":
    sys.exit(run_alone(measure, __doc__))
