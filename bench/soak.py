"""DNS mode without any nameserver: 100 connections a second for a minute, none of which may fail.

`python -m bench.soak [userspace|kernel]...` (root); exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from bench import dns
from bench.load import SERVER_PORT, Generator
from bench.results import Topic
from bench.run import Options, scratch
from bench.scene import Scene
from egress_router.lab import caller
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.spec import Cni, Family, LabSpec
from egress_router.lab.world import BARE_PYTHON, Lab

RATE, SECONDS = 100, 60
MARGIN_S = 30.0


def main() -> int:
    """Prints a line for each data path."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.soak")
    parser.add_argument("path", nargs="*", help="userspace, kernel; both if none is named")
    paths = parser.parse_args().path or [dns.USERSPACE, dns.KERNEL]
    options = Options(rounds=1, seconds=1.0, only=(), ours={})
    topic = Topic(name="soak", title="", sides=tuple(paths))
    failed = 0
    with scratch() as folder, Lab(LabSpec(cni=Cni.BRIDGE, family=Family.V4)) as lab:
        # The partner names itself to a caller; it stands where the load's server would.
        lab.start_nameserver(*dns.RECORDS)
        run_init(lab, dns.INIT)
        load = Generator(lab, folder, options)
        lab.process("server").stop()
        lab.start_partner(tcp=(SERVER_PORT,))
        scene = Scene(lab=lab, folder=folder, load=load, topic=topic, options=options)
        for path in paths:
            failed += _soak(scene, path)
    return 1 if failed else 0


def _soak(scene: Scene, path: str) -> int:
    lab = scene.lab
    daemon = dns.start_side(scene, path, 1)
    assert daemon is not None
    wait_until_ready(lab, daemon)
    lab.process("nameserver").stop()
    argv = (*dns.ENDPOINT, RATE, SECONDS)
    call = lab.start("client", (*BARE_PYTHON, caller.__file__, *map(str, argv)), name="caller")
    call.wait(SECONDS + MARGIN_S)
    called = json.loads(call.output())
    slow = sorted(called["latencies"])[-len(called["latencies"]) // 100 or -1]
    errors = Counter(called["errors"])
    print(f"{path}: {called['calls']} calls, {dict(errors) or 'none failed'}, by server")
    print(f"{called['servers']}, 99th percentile {slow * 1000:.0f} ms", flush=True)
    daemon.stop()
    lab.start_nameserver(*dns.RECORDS)
    return len(called["errors"])


if __name__ == "__main__":
    sys.exit(main())
