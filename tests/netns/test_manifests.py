"""The overlays of deploy/ do what they are for: their pods' environments, run for real."""

import json
from collections.abc import Callable

import pytest

from egress_router.lab import web
from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import INIT_CAPABILITIES, READ_ONLY_SYSCTLS, UNPRIVILEGED
from egress_router.lab.process import Process
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.spec import Egress, Family, LabSpec
from egress_router.lab.world import BARE_PYTHON, Answer, Lab
from model.manifests import OVERLAYS, Document, Router, router_of

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

LINKS = {"sdn": Egress.HANDED, "multus": Egress.MULTUS, "parent": Egress.PARENT}
# Where init finds the node's namespace in the pod, and in a lab.
NODE_NAMESPACE = "/node/ns/net"
HTTP_PORT = 8080
REPAIR_S = 20.0  # on a busy machine; half a second is usual


def build(lab: MakeLab, router: Router) -> Lab:
    """A world whose pod has the link and the sysctls that the manifest asks for."""
    sysctls = router.spec.get("securityContext", {}).get("sysctls", ())
    return lab(
        LabSpec(
            family=Family.V4,
            egress=next(egress for link, egress in LINKS.items() if f"-{link}" in router.origin),
            pod_sysctls=tuple((sysctl["name"], sysctl["value"]) for sysctl in sysctls),
        )
    )


def variables_of(world: Lab, router: Router, container: Document) -> dict[str, str]:
    """A container's variables, with its files and the node's namespace where the lab has them."""
    hostname = f"{router.workload['metadata']['name']}-0"
    environment = router.environment(container, hostname)
    places = {NODE_NAMESPACE: f"/run/netns/{world.namespace('node')}"}
    for path, text in environment.files.items():
        place = world.logs / path.rpartition("/")[2]
        place.write_text(text)
        places[path] = str(place)
    return {name: places.get(value, value) for name, value in environment.variables.items()}


def privileges(container: Document) -> tuple[str, ...]:
    """The command line that leaves a program what its container has."""
    own = container["securityContext"]
    if own.get("privileged"):
        return ()
    added = own["capabilities"].get("add")
    assert added in (None, ["NET_ADMIN", "NET_RAW"])
    return (*READ_ONLY_SYSCTLS, *INIT_CAPABILITIES) if added else UNPRIVILEGED


def run_pod(world: Lab, router: Router) -> Process:
    """Runs the init container to its end, then the daemon, with their privileges and no more."""
    named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
    hostname = f"{router.workload['metadata']['name']}-0"
    init = variables_of(world, router, router.init)
    world.router(("init",), init, wrap=(*named, hostname, *privileges(router.init)))
    daemon = variables_of(world, router, router.daemon)
    process = world.start_router((router.mode,), daemon, wrap=privileges(router.daemon))
    wait_until_ready(world, process)
    return process


def seen_source(world: Lab, router: Router) -> str:
    """The address from which the partner saw a client that used the mode as it is meant."""
    pod = ADDRESSES.pod.v4
    if router.mode != "http":
        answer = world.ask("client", "tcp", pod, 80)
        assert isinstance(answer, Answer), answer
        return str(answer.source)
    proxy = {"http_proxy": f"http://{pod}:{HTTP_PORT}"}
    url = f"http://{ADDRESSES.partner.v4}/"
    done = world.run("client", ("curl", "-sS", "--max-time", "5", url), proxy)
    return json.loads(done.stdout)["source"]


def serve_partner(world: Lab, router: Router) -> None:
    """Starts what the mode's clients ask for."""
    if router.mode == "http":
        command = (*BARE_PYTHON, web.__file__, "--http", "80")
        world.start("partner", command, name="web").wait_for_line("ready")
    else:
        world.start_partner(tcp=(80,))


@pytest.mark.parametrize("origin", OVERLAYS)
def test_overlay_in_a_world(lab: MakeLab, origin: str) -> None:
    """A client of the pod reaches the partner, which sees the source that the overlay names."""
    router = router_of(origin)
    world = build(lab, router)
    serve_partner(world, router)
    run_pod(world, router)
    assert seen_source(world, router) == str(ADDRESSES.source.v4)


@pytest.mark.parametrize("origin", ["redirect-sdn", "http-sdn", "dns-sdn"])
def test_not_ready_is_no_reason_to_restart(lab: MakeLab, origin: str) -> None:
    """With the egress link down the readiness probe fails and the liveness probe does not."""
    router = router_of(origin)
    world = build(lab, router)
    run_pod(world, router)

    def probe(name: str) -> int:
        program, *words = router.daemon[name]["exec"]["command"]
        assert program == "egress-router"
        return world.router(tuple(words), {}, wrap=UNPRIVILEGED, check=False).returncode

    assert (probe("readinessProbe"), probe("livenessProbe")) == (0, 0)
    world.run("pod", ("ip", "link", "set", world.spec.egress_link, "down"))
    world.process(router.mode).wait_for_line('"daemon_not_ready"')
    assert (probe("readinessProbe"), probe("livenessProbe")) == (1, 0)


def test_probes_by_port(lab: MakeLab) -> None:
    """The node reaches the probed port beside a fallback, and liveness outlives readiness there."""
    router = router_of("redirect-multus-guarded")
    world = build(lab, router)
    run_pod(world, router)
    (port,) = (one["containerPort"] for one in router.daemon["ports"] if one["name"] == "admin")

    def probe(name: str) -> str:
        url = f"http://{ADDRESSES.pod.v4}:{port}{router.daemon[name]['httpGet']['path']}"
        words = ("curl", "-s", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", url)
        return world.run("node", words).stdout

    assert (probe("readinessProbe"), probe("livenessProbe")) == ("200", "200")
    world.run("pod", ("ip", "link", "set", world.spec.egress_link, "down"))
    world.process(router.mode).wait_for_line('"daemon_not_ready"')
    assert (probe("readinessProbe"), probe("livenessProbe")) == ("503", "200")


def test_keeper_repairs(lab: MakeLab) -> None:
    """With the keeper's privileges a deleted table is put back, and clients get through."""
    router = router_of("redirect-multus-keeper")
    world = build(lab, router)
    serve_partner(world, router)
    daemon = run_pod(world, router)
    world.run("pod", ("nft", "delete", "table", "inet", "egress_router"))
    daemon.wait_for_line('"drift_repaired"', REPAIR_S)
    assert seen_source(world, router) == str(ADDRESSES.source.v4)
