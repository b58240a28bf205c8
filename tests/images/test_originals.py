"""The documented pods of the originals, with the names of the images changed and nothing else."""

from collections.abc import Callable

import pytest

from egress_router.lab.addresses import ADDRESSES
from tests.images.manifests import ORIGINAL
from tests.images.pods import PodWorld

CALLS = {  # the port of the pod, and who must be reached there
    80: ("203.0.113.25", 80),
    8080: ("203.0.113.26", 80),
    8443: ("203.0.113.26", 443),
    7777: ("203.0.113.27", 7777),
}


@pytest.mark.parametrize("name", ["redirect.yaml", "redirect-configmap.yaml"])
def test_redirect(play: Callable[..., PodWorld], name: str) -> None:
    """Each port leads to its destination, and the partner sees the source address."""
    pod = play((ORIGINAL / name).read_text())
    pod.lab.start_partner(tcp=(80, 443, 7777))
    pod.start()
    for port, (address, there) in CALLS.items():
        answer = pod.lab.ask("client", "tcp", ADDRESSES.pod.v4, port)
        assert not isinstance(answer, str), (port, answer)
        assert (str(answer.local), answer.local_port) == (address, there)
        assert answer.source == ADDRESSES.source.v4
    pod.wait_until_ready()
