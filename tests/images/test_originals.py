"""The documented pods of the originals, with the names of the images changed and nothing else."""

from collections.abc import Callable

import pytest

from tests.images.callers import (
    FORWARDED,
    RECORDS,
    REDIRECTED,
    expect_proxied,
    expect_reached,
    start_web,
    status_of,
)
from tests.images.manifests import read_example
from tests.images.pods import PodWorld


@pytest.mark.parametrize("name", ["redirect.yaml", "redirect-configmap.yaml"])
def test_redirect(play: Callable[..., PodWorld], name: str) -> None:
    """Each port leads to its destination, and the partner sees the source address."""
    pod = play(read_example(f"original/{name}"))
    pod.lab.start_partner(tcp=(80, 443, 7777))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, REDIRECTED)


def test_http(play: Callable[..., PodWorld]) -> None:
    """With HTTP_PROXY set, names and addresses of the list are fetched from the source address."""
    pod = play(read_example("original/http.yaml"))
    pod.lab.start_nameserver(*RECORDS)
    start_web(pod.lab)
    pod.start()
    pod.wait_until_ready()
    expect_proxied(pod.lab, "http://www.example.com/")
    expect_proxied(pod.lab, "http://203.0.113.25/")
    expect_proxied(pod.lab, "https://www.example.com/")
    assert status_of(pod.lab, "http://denied.example.com/") == "403"


def test_dns(play: Callable[..., PodWorld]) -> None:
    """Each port leads to its address or name, ports below 1024 too, from the source address."""
    pod = play(read_example("original/dns.yaml"))
    pod.lab.start_nameserver(*RECORDS)
    pod.lab.start_partner(tcp=(80, 443))
    pod.start()
    pod.wait_until_ready()
    expect_reached(pod.lab, FORWARDED)
