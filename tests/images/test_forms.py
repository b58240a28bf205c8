"""Other forms of the pod: fewer privileges, a link of our own making, one container for all."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from egress_router.lab.spec import Egress, LabSpec
from tests.images.callers import (
    FORWARDED,
    RECORDS,
    REDIRECTED,
    expect_proxied,
    expect_reached,
    start_web,
)
from tests.images.manifests import Document, changed, read_example, set_variable
from tests.images.pods import PodWorld

REDUCED = {port: REDIRECTED[port] for port in (80, 8080, 7777)}


def test_reduced_redirect(play: Callable[..., PodWorld]) -> None:
    """Init with NET_ADMIN and NET_RAW alone, and a daemon with nothing, do all of it."""
    pod = play(read_example("redirect-reduced.yaml"))
    pod.lab.start_partner(tcp=(80, 7777))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, REDUCED)


def test_reduced_http(play: Callable[..., PodWorld]) -> None:
    """The same for the HTTP proxy."""
    pod = play(read_example("http.yaml"))
    pod.lab.start_nameserver(*RECORDS)
    start_web(pod.lab)
    pod.start()
    pod.wait_until_ready()
    expect_proxied(pod.lab, "http://api.example.com/")
    expect_proxied(pod.lab, "https://api.example.com/")


def test_reduced_dns(play: Callable[..., PodWorld]) -> None:
    """The same for DNS mode; a safe sysctl of the pod opens the ports below 1024."""
    pod = play(
        read_example("dns.yaml"),
        LabSpec(pod_sysctls=(("net.ipv4.ip_unprivileged_port_start", "0"),)),
    )
    pod.lab.start_nameserver(*RECORDS)
    pod.lab.start_partner(tcp=(80, 443))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, FORWARDED)


@pytest.fixture
def node() -> Iterator[int]:
    """A process in a network namespace of its own, which stands for the node's process 1."""
    process = subprocess.Popen(
        ("unshare", "--net", "sh", "-c", "echo there; exec sleep infinity"), stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        yield process.pid
        process.kill()


def test_parent(play: Callable[..., PodWorld], node: int) -> None:
    """Init makes the link from the node's NIC, which lies in another network namespace."""

    def point(pod: Document) -> None:
        (volume,) = pod["spec"]["volumes"]
        assert volume["hostPath"]["path"] == "/proc/1/ns"
        volume["hostPath"]["path"] = f"/proc/{node}/ns"

    pod = play(
        changed(read_example("redirect-parent.yaml"), point),
        LabSpec(egress=Egress.PARENT),
        adopted={"node": node},
    )
    pod.lab.start_partner(tcp=(80, 7777))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, REDUCED)


def test_legacy(play: Callable[..., PodWorld]) -> None:
    """One container that sets the pod up and stays, as the first of the originals did."""

    def merge(pod: Document) -> None:
        (container,) = pod["spec"].pop("initContainers")
        set_variable(container, "EGRESS_ROUTER_MODE", "legacy")
        pod["spec"]["containers"] = [container]

    pod = play(changed(read_example("original/redirect.yaml"), merge))
    pod.lab.start_partner(tcp=(80, 443, 7777))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, REDIRECTED)
    assert pod.stop().code == 0
