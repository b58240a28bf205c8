"""A pod whose environment is wrong: it says so, and nothing was changed."""

from collections.abc import Callable

import pytest

from egress_router.lab.state import observe_state
from tests.images.manifests import Document, changed, read_example, set_variable
from tests.images.pods import PodWorld

BAD = "80 tcp 203.0.113.25\n70000 tcp 203.0.113.26\n443 tcp www.example.com"


@pytest.mark.parametrize("example", ["original/redirect.yaml", "redirect-reduced.yaml"])
def test_bad_environment(play: Callable[..., PodWorld], example: str) -> None:
    """Init fails with every mistake in its log, and the pod's network is as it was."""

    def spoil(pod: Document) -> None:
        set_variable(pod["spec"]["initContainers"][0], "EGRESS_DESTINATION", BAD)

    pod = play(changed(read_example(example), spoil))
    before = observe_state(pod.lab)
    ended = pod.init()
    assert ended.code == 2
    assert "Invalid port: 70000, must be in the range 1 to 65535" in ended.log
    assert "EGRESS_DESTINATION value '443 tcp www.example.com' is invalid" in ended.log
    assert observe_state(pod.lab) == before


def test_no_capability(play: Callable[..., PodWorld]) -> None:
    """Init without its capabilities fails, and names them."""

    def take_away(pod: Document) -> None:
        pod["spec"]["initContainers"][0]["securityContext"]["capabilities"] = {"drop": ["ALL"]}

    pod = play(changed(read_example("redirect-reduced.yaml"), take_away))
    before = observe_state(pod.lab)
    ended = pod.init()
    assert ended.code == 4
    assert "CAP_NET_ADMIN and CAP_NET_RAW missing" in ended.log
    assert observe_state(pod.lab) == before


def test_bad_list_of_a_daemon(play: Callable[..., PodWorld]) -> None:
    """A proxy with a bad list ends at once, and says why."""

    def spoil(pod: Document) -> None:
        pod["spec"]["restartPolicy"] = "Never"
        list_ = "*\nwww.example.com"
        set_variable(pod["spec"]["containers"][0], "EGRESS_HTTP_PROXY_DESTINATION", list_)

    pod = play(changed(read_example("original/http.yaml"), spoil))
    pod.start()
    ended = pod.wait_for_end(pod.main)
    assert ended.code == 2
    assert "Wildcard must be last rule, if present" in ended.log
