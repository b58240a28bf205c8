"""HTTP mode beside Debian's Squid, configured as the original image's, and tinyproxy.

`python -m bench.http` (root). All proxies run in the same pod of one lab and serve the same client
and partner in turns. Ours writes its decision lines all the while, as it does by default; Squid
writes none, as the original, or its access log (`Squid, log`).

Every packet of the client's crosses four namespaces, at the cost of whoever sends it. In the rows
`from the pod` the client is in the proxy's own namespace, where its side of the way is short.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from bench import peers
from bench.load import SERVER_PORT, Generator
from bench.results import Topic
from bench.run import Options, in_turn, require, run_alone, say, scratch
from bench.scene import AT_ONCE, RATES, Scene, Target
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from egress_router.lab.runner import run_init, wait_until_ready
from egress_router.lab.spec import Cni, Family, Host, LabSpec
from egress_router.lab.world import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from egress_router.lab.process import Process

    Run = Callable[[Target], None]

OURS, SQUID, SQUID_LOG, TINYPROXY = "egress router", "Squid", "Squid, log", "tinyproxy"
NAME = "web.test"
TUNNEL = f"{NAME}:{SERVER_PORT}"
SMALL = f"http://{NAME}:{SERVER_PORT}/small"
POD = str(ADDRESSES.pod.v4)
INIT = {
    "EGRESS_ROUTER_MODE": "http-proxy",
    "EGRESS_SOURCE": "192.168.12.99/24",
    "EGRESS_GATEWAY": "192.168.12.1",
    "EGRESS_CONFLICT": "takeover",
}
LUA = 'local r = "{request}"\nfunction request() return r end\n'
GET = "GET http://web.test{path} HTTP/1.1\\r\\nHost: web.test\\r\\n{fields}\\r\\n"
CLOSE = "Connection: close\\r\\n"
PLACES: tuple[tuple[Host, str], ...] = (("client", ""), ("pod", ", from the pod"))
RULES = (10, 100, 1_000, 10_000, 100_000)
BY_RULES = "CONNECT/s by rules"
MEMORY = "memory of an idle tunnel"
PAIR = {SQUID, OURS}  # these are compared in everything, the others in this:
FOR_ALL = {"CONNECT/s", "keep-alive requests/s", "requests/s, a connection each", "1 MB bodies/s"}
START_LIMIT_S = 120.0  # a list of 100,000 names, on a busy machine


def measure(options: Options) -> Topic:
    """All of the module's measures."""
    require(("squid", "tinyproxy", "nginx", "wrk", "gcc"))
    topic = Topic(
        name="http",
        title="HTTP mode beside Squid and tinyproxy",
        sides=(SQUID, OURS, SQUID_LOG, TINYPROXY),
    )
    spec = LabSpec(cni=Cni.BRIDGE, family=Family.V4)
    with scratch() as folder, Lab(spec) as lab:
        lab.start_nameserver(f"{NAME}. 3600 IN A {ADDRESSES.partner.v4}")
        peers.start_nginx(lab, folder)
        run_init(lab, INIT)
        load = Generator(lab, folder, options)
        scene = Scene(lab=lab, folder=folder, load=load, topic=topic, options=options)
        try:
            _compare(scene)
            if options.wants(BY_RULES):
                _grow_rules(scene)
        finally:
            peers.remove_squid_files()
    return topic


def start_ours(scene: Scene, rules: str) -> Process:
    """Our daemon, with a list of rules; returns once it is ready."""
    path = scene.folder / "rules.txt"
    path.write_text(rules, encoding="utf-8")
    environment = {"EGRESS_HTTP_PROXY_DESTINATION_FILE": str(path), **scene.options.ours}
    process = scene.lab.start_router(("http",), environment, wrap=UNPRIVILEGED)
    wait_until_ready(scene.lab, process, START_LIMIT_S)
    return process


def _compare(scene: Scene) -> None:
    lab, folder = scene.lab, scene.folder
    started = (
        (SQUID, 8081, peers.start_squid(lab, folder, 8081)),
        (OURS, 8080, start_ours(scene, NAME)),
        (SQUID_LOG, 8082, peers.start_squid(lab, folder, 8082, log=f"{folder}/access.log")),
        (TINYPROXY, 8083, peers.start_tinyproxy(lab, folder, 8083)),
    )
    targets = [
        Target(side=side, endpoint=(POD, port), process=process, target=TUNNEL)
        for side, port, process in started
    ]
    for target in targets:
        scene.load.wait_for_port("client", target.endpoint)
    for target in targets:
        if target.side in PAIR and scene.options.wants(MEMORY):
            scene.hold_connections(MEMORY, target)
    measures = [(name, run) for name, run in _measures(scene) if scene.options.wants(name)]
    for turn in range(scene.options.rounds):
        say(f"http: round {turn + 1} of {scene.options.rounds}")
        for name, run in measures:
            for target in in_turn(targets, turn):
                if target.side in PAIR or name in FOR_ALL:
                    run(target)
    for _, _, process in started:
        process.stop()


def _measures(scene: Scene) -> Iterator[tuple[str, Run]]:
    for host, where in PLACES:
        name = f"CONNECT/s{where}"
        yield name, partial(scene.open_connections, name, host=host)
        for streams in (1, 4, 64) if host == "client" else (4,):
            name, at = f"tunnel throughput{where}", (streams, "streams")
            yield name, partial(scene.fill_streams, name, streams=streams, host=host, at=at)
        yield from _plain(scene, f"keep-alive requests/s{where}", "/small", host=host)
    for at_once in AT_ONCE:
        name, at = "CONNECT/s by tunnels at once", (at_once, "at once")
        yield name, partial(scene.open_connections, name, at=at, at_once=at_once)
    yield from _plain(scene, "requests/s, a connection each", "/small", fields=CLOSE)
    yield from _plain(scene, "1 MB bodies/s", "/big", at_once=8)
    for rate in RATES:
        yield "latency of CONNECT", partial(_pace, scene, "latency of CONNECT", TUNNEL, rate)
        yield "latency of requests", partial(_pace, scene, "latency of requests", SMALL, rate)


def _pace(scene: Scene, name: str, asked: str, rate: int, target: Target) -> None:
    paced = Target(side=target.side, endpoint=target.endpoint, process=target.process, target=asked)
    scene.pace_connections(name, paced, rate)


def _plain(  # noqa: PLR0913 - a request has these sides
    scene: Scene,
    name: str,
    path: str,
    *,
    fields: str = "",
    at_once: int = 32,
    host: Host = "client",
) -> Iterator[tuple[str, Run]]:
    def run(target: Target) -> None:
        script = scene.folder / "request.lua"
        request = GET.format(path=path, fields=fields)
        script.write_text(LUA.format(request=request), encoding="utf-8")
        url = f"http://{POD}:{target.endpoint[1]}/"
        assert target.pid is not None
        server = scene.lab.process("nginx").pid
        seen = scene.load.requests(host, url, at_once, pid=target.pid, server=server, script=script)
        scene.note_rate(name, target, seen)

    yield name, run


def _grow_rules(scene: Scene) -> None:
    for count in RULES:
        names = [f"host{number}.example.com" for number in range(count - 1)]
        for turn in range(scene.options.rounds):
            say(f"http: {count:,} rules, round {turn + 1}")
            _load_with_rules(scene, names, count, turn)


def _load_with_rules(scene: Scene, names: Sequence[str], count: int, turn: int) -> None:
    squid = peers.start_squid(scene.lab, scene.folder, 8081, refused=names)
    ours = start_ours(scene, "\n".join((*(f"!{name}" for name in names), NAME)))
    for side, port, process in in_turn(((SQUID, 8081, squid), (OURS, 8080, ours)), turn):
        target = Target(side=side, endpoint=(POD, port), process=process, target=TUNNEL)
        scene.load.wait_for_port("client", target.endpoint)
        scene.open_connections(BY_RULES, target, at=(count, "rules"))
    squid.stop()
    ours.stop()


if __name__ == "__main__":
    sys.exit(run_alone(measure, __doc__))
