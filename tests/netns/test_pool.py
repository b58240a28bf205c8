"""A StatefulSet's pods share one pool: each goes out with the address of its own ordinal."""

import json
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.environment import router_environment
from egress_router.lab.runner import wait_until_ready
from egress_router.lab.spec import Family, LabSpec
from egress_router.lab.state import observe_state
from egress_router.lab.world import Answer, Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

POOLS = {
    4: "192.168.12.99-192.168.12.100/24",
    6: "2001:db8:12::99-2001:db8:12::9a/64",
}
SHARES = {
    4: (ip_address("192.168.12.99"), ip_address("192.168.12.100")),
    6: (ip_address("2001:db8:12::99"), ip_address("2001:db8:12::9a")),
}


def pooled(world: Lab) -> dict[str, str]:
    """A router's environment with the pool of the world's families in place of a source."""
    pool = " ".join(POOLS[version] for version in world.spec.family.versions)
    return router_environment(world.spec, EGRESS_SOURCE=None, EGRESS_SOURCE_POOL=pool)


def named(hostname: str) -> tuple[str, ...]:
    """Gives a program the hostname that Kubernetes gives all containers of a pod."""
    return ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', hostname)


@pytest.mark.parametrize("family", [Family.V4, Family.DUAL])
def test_two_pods_two_addresses(lab: MakeLab, family: Family) -> None:
    """With one environment, pod x-0 and pod x-1 leave from the pool's first and second address."""
    world = lab(LabSpec(twin=True, family=family))
    world.start_partner(tcp=(80,))
    for host, ordinal in (("pod", 0), ("twin", 1)):
        world.router(("init",), pooled(world), wrap=named(f"x-{ordinal}"), host=host)
    # The lab's node knows the way to its one pod only.
    for version in family.versions:
        gateway = f"{ADDRESSES.pod_gateway.of(version)}/{ADDRESSES.twin.of(version).max_prefixlen}"
        world.run("node", ("ip", "addr", "add", gateway, "dev", "to-twin", "nodad"))
        route = ("ip", "route", "add", str(ADDRESSES.twin.of(version)), "dev", "to-twin")
        world.run("node", route)
    for version in family.versions:
        pods = (ADDRESSES.pod.of(version), ADDRESSES.twin.of(version))
        for pod, source in zip(pods, SHARES[version], strict=True):
            answer = world.ask("client", "tcp", pod, 80)
            assert isinstance(answer, Answer), answer
            assert answer.source == source


def test_daemon_with_the_pool(lab: MakeLab) -> None:
    """A redirect daemon that has init's environment keeps its own pod's address, by its name."""
    world = lab(LabSpec(family=Family.V4))
    world.router(("init",), pooled(world), wrap=named("x-1"))
    daemon = world.start_router(("redirect",), pooled(world), wrap=named("x-1"))
    wait_until_ready(world, daemon)
    status = world.router(("status", "--json"), {}).stdout
    assert str(SHARES[4][1]) in status
    assert str(SHARES[4][0]) not in status


def test_pod_beyond_the_pool(lab: MakeLab) -> None:
    """A pod that no address is left for ends with the configuration's exit code and its reason."""
    world = lab(LabSpec(family=Family.V4))
    before = observe_state(world)
    done = world.router(("init",), pooled(world), wrap=named("x-2"), check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: EGRESS_SOURCE_POOL: pod 'x-2' has no address")
    assert observe_state(world) == before


def test_check_tells_the_pods_share(lab: MakeLab) -> None:
    """`check` says which of the pool's addresses this pod would take."""
    world = lab(LabSpec(family=Family.V4))
    done = world.router(("check", "init", "--json"), pooled(world), wrap=named("x-1"))
    assert json.loads(done.stdout)["source"] == ["192.168.12.100/24"]
