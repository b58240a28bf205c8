"""Other forms of the pod: fewer privileges, a link of our own making, one container for all."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from egress_router.lab.spec import Egress, LabSpec
from tests.images.callers import (
    RECORDS,
    REDIRECTED,
    expect_proxied,
    expect_reached,
    start_web,
)
from tests.images.manifests import Document, changed, read_example, set_variable
from tests.images.pods import PodWorld

REDUCED = {port: REDIRECTED[port] for port in (80, 8080, 7777)}


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


def test_privileged_daemon(play: Callable[..., PodWorld]) -> None:
    """A daemon that was given everything works too, also where its image has no nftables."""

    def grant(pod: Document) -> None:
        pod["spec"]["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}

    pod = play(changed(read_example("original/http.yaml"), grant))
    pod.lab.start_nameserver(*RECORDS)
    start_web(pod.lab)
    pod.start()
    pod.wait_until_ready()
    expect_proxied(pod.lab, "http://www.example.com/")
    assert "libnftables" in pod.execute("egress-router", "status").stdout


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
