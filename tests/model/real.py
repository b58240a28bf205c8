"""Worlds of `model.worlds` on the real kernel: a pod's namespace, and a node's around it."""

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from egress_router.config.init import ClaimConfig
from egress_router.kernel import netns
from egress_router.kernel.namespace import Namespace
from egress_router.kernel.nft import Nft
from egress_router.plan.state import Observed, Route

COMMAND_LIMIT_S = 20
CLAIM = ClaimConfig(takeover=False, timeout_s=0.0, probe_s=0.02)  # nobody else is there
PARENT = "uplink"
_SETTINGS = ("rp_filter", "arp_ignore", "arp_announce", "promote_secondaries")
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class RealWorld:
    """Two namespaces by name; `observed` is what the pod's was built from."""

    pod: str
    node: str
    observed: Observed

    @property
    def node_path(self) -> str:
        """As EGRESS_PARENT_NETNS takes it."""
        return f"/run/netns/{self.node}"

    def run(self, *command: str, check: bool = True) -> str:
        """What a command says in the pod's namespace."""
        return run("ip", "netns", "exec", self.pod, *command, check=check)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling process is in the pod's namespace meanwhile."""
        with netns.entered(f"/run/netns/{self.pod}"):
            yield

    @contextlib.contextmanager
    def kernel(self, *, timeout_s: float = 10.0) -> Iterator[tuple[Namespace, Nft]]:
        """What the product applies its steps to."""
        with self.entered(), Nft(timeout_s) as nft:
            namespace = Namespace(
                nft, nameservers=self.observed.nameservers, claim=CLAIM, waiting=lambda _: None
            )
            try:
                yield namespace, nft
            finally:
                namespace.close()

    def fingerprint(self) -> str:
        """Everything the pod's namespace holds, as the system's own programs show it."""
        with self.entered():
            shown = [
                # The queue is made when a link first comes up, and then stays.
                _sorted(re.sub(r"qdisc \w+", "", run("ip", "-d", "link"))),
                re.sub(r"qdisc \w+", "", run("ip", "addr")),
                _sorted(run("ip", "-d", "-4", "route", "show", "table", "all")),
                _sorted(run("ip", "-d", "-6", "route", "show", "table", "all")),
                run("ip", "-4", "rule"),
                run("ip", "-6", "rule"),
                *sorted(
                    run("nft", "-s", "list", "ruleset")
                    .replace("}\ntable", "}\n\0table")
                    .split("\0")
                ),
            ]
            for conf in sorted(Path("/proc/sys/net").glob("ipv[46]/conf/*/*")):
                with contextlib.suppress(OSError):  # some are for writing only
                    shown.append(f"{conf} {conf.read_text(encoding='ascii')}")
        return "\n".join(shown)


@contextlib.contextmanager
def real_world(observed: Observed) -> Iterator[RealWorld]:
    """Builds the world, and removes it in the end."""
    prefix = f"egt-{os.getpid()}-{next(_NUMBERS)}"
    world = RealWorld(pod=f"{prefix}-pod", node=f"{prefix}-node", observed=observed)
    try:
        _batch((), [f"netns add {world.pod}", f"netns add {world.node}"])
        with world.entered():
            _write_settings()
        _batch(("-n", world.node), _node_lines(world))
        _batch(("-n", world.pod), _pod_lines(observed))
        yield world
    finally:
        for name in (world.pod, world.node):
            run("ip", "netns", "del", name, check=False)


def run(*command: str, check: bool = True, text: str = "") -> str:
    """The output of a command; it raises with what the command said if it failed."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}\n{text}")
    return done.stdout


def render_route(route: Route) -> str:
    """A route as `ip route add` takes it."""
    words = [route.kind.value, str(route.destination)]
    words += ["via", str(route.gateway)] if route.gateway else []
    words += ["dev", route.link] if route.link else []
    words += ["src", str(route.source)] if route.source else []
    words += ["metric", str(route.metric)] if route.metric else []
    words += [f"table {route.table} proto {route.protocol}"]
    words += [f"scope {route.scope}"] if route.version == 4 else []
    words += ["onlink"] if route.onlink else []
    words += [f"{name} {value}" for name, value in route.attributes]
    return " ".join(words)


def _node_lines(world: RealWorld) -> Iterator[str]:
    yield f"link add {PARENT} type veth peer name lan"
    yield f"addr add 192.168.12.2/24 dev {PARENT}"
    yield f"link set {PARENT} up"
    yield "link set lan up"
    for link in world.observed.links:
        if link.kind == "veth":
            yield (
                f"link add {link.name} netns {world.pod} address {link.mac} type veth "
                f"peer name far-{link.name}"
            )
            yield f"link set far-{link.name} up"
        elif link.kind == "macvlan":
            yield (
                f"link add link {PARENT} name {link.name} netns {world.pod} address {link.mac} "
                f"type macvlan mode {link.macvlan_mode}"
            )


def _pod_lines(observed: Observed) -> Iterator[str]:
    yield "link set lo up"
    for link in observed.links:
        if link.name != "lo":
            yield f"link set {link.name} mtu {link.mtu} {'up' if link.up else 'down'}"
    for held in observed.addresses:
        nodad = " nodad" if held.interface.version == 6 else ""
        yield f"addr add {held.interface} dev {held.link}{nodad}"
    for route in observed.routes:
        yield f"route add {render_route(route)}"


def _batch(options: tuple[str, ...], lines: Iterable[str]) -> None:
    run("ip", *options, "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _write_settings() -> None:
    """The values of a node that sets none, whatever this machine's are: they may be inherited."""
    for name in _SETTINGS:
        for path in Path("/proc/sys/net/ipv4/conf").glob(f"*/{name}"):
            path.write_text("0", encoding="ascii")
    # Link-local addresses are there at once, so that nothing changes while a test looks at it.
    Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0", encoding="ascii")


def _sorted(text: str) -> str:
    return "\n".join(sorted(text.splitlines()))
