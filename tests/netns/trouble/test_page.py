"""The status page of real routers, healthy and broken, as a phone in the cluster sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from egress_router.lab.addresses import ADDRESSES
from egress_router.lab.privileges import UNPRIVILEGED
from model.browser import CHROMIUM, Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress_router.lab.world import Lab

Admit = Any  # the fixture that sets a pod up; its Patient lives in conftest

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

PORT = "9090"
NET_RAW = ("setpriv", "--bounding-set=-all,+net_raw")
URL = f"http://{ADDRESSES.pod.v4}:{PORT}/"
PROXY = ("-x", f"http://{ADDRESSES.pod.v4}:8080")


@pytest.fixture
def open_page(patient: Admit, tmp_path: Path) -> Callable[..., tuple[Any, Page]]:
    """Sets a router with an admin port up, and opens its page on a phone of the cluster."""

    def admit(mode: str, **options: Any) -> tuple[Any, Page]:
        pod = patient(
            mode, daemon={"EGRESS_ADMIN_PORT": PORT}, **{"EGRESS_ADMIN_PORT": PORT, **options}
        )
        return pod, Page(pod.lab.namespace("client"), tmp_path)

    return admit


def show(page: Page) -> None:
    """Opens the page and waits until it shows a router."""
    page.look(390, 844, "light")
    page.open(URL)
    page.wait_for_text(str(ADDRESSES.source.v4))


@pytest.mark.parametrize("mode", ["redirect", "http", "dns"])
def test_healthy(mode: str, open_page: Any) -> None:
    """It is ready, shows who and where it is, and its console has nothing to complain of."""
    pod, browser = open_page(mode)
    with browser as page:
        show(page)
        page.wait_for("document.getElementById('pill').textContent === 'ready'")
        mac = pod.status_until(lambda told: told["gateways"][0]["mac"])["gateways"][0]["mac"]
        page.wait_for_text(f"{ADDRESSES.gateway.v4} ({mac}, ")
        page.wait_for("document.querySelectorAll('.plot polyline').length > 0")
        assert f"Egress Router · {mode}" in page.text()
        assert page.evaluate("document.querySelectorAll('.alerts li').length") == 0
        assert page.problems == []
        assert set(page.requests) == {URL, f"{URL}status", f"{URL}metrics"}
    for loopback in ("127.0.0.1", "[::1]"):  # as kubectl port-forward calls it
        pod.run("curl", "-sf", "-o", "/dev/null", f"http://{loopback}:{PORT}/")


def set_down(pod: Any) -> str:
    """The egress link."""
    pod.run("ip", "link", "set", "macvlan0", "down")
    return "macvlan0 is down"


def leave(_pod: Any) -> str:
    """Nothing: its gateway was wrong from the start."""
    return "gateway 192.168.12.250 does not answer on macvlan0"


def flush(pod: Any) -> str:
    """The table."""
    pod.run("nft", "flush", "ruleset")
    return "the nftables table is missing"


def silence(pod: Any) -> str:
    """The cluster's DNS, and somebody asks for a name."""
    pod.lab.process("nameserver").stop()
    if pod.mode == "http":
        url = "http://never-asked.partner.test/"
        pod.lab.run("client", ("curl", "-s", "-m", "10", *PROXY, url), check=False)
    return "no nameserver answers"


FAULTS = [
    ("redirect", set_down, UNPRIVILEGED, {}),
    ("dns", leave, UNPRIVILEGED, {"EGRESS_GATEWAY": "192.168.12.250,2001:db8:12::250"}),
    ("redirect", flush, UNPRIVILEGED, {}),
    ("http", silence, UNPRIVILEGED, {}),
    ("dns", silence, UNPRIVILEGED, {}),
]


@pytest.mark.parametrize(("mode", "breaks", "wrap", "changes"), FAULTS)
def test_broken(
    mode: str,
    breaks: Callable[[Any], str],
    wrap: tuple[str, ...],
    changes: dict[str, str],
    open_page: Any,
) -> None:
    """An open page names the cause by itself."""
    pod, browser = open_page(mode, wrap=wrap, **changes)
    with browser as page:
        show(page)
        words = breaks(pod)
        page.wait_for(f"document.getElementById('alerts').innerText.includes('{words}')")


def test_address_taken(open_page: Any, taker: Callable[[Lab], str]) -> None:
    """It names the station that uses the address too."""
    pod, browser = open_page("http", wrap=NET_RAW)
    with browser as page:
        show(page)
        holder = taker(pod.lab)
        page.wait_for_text(f"{ADDRESSES.source.v4} is also used by {holder}")
        page.wait_for("document.getElementById('pill').textContent === 'not ready'")


def test_a_hostile_client(open_page: Any) -> None:
    """What a client of the proxy makes up stays text on the page of whoever watches it."""
    pod, browser = open_page("http")
    with browser as page:
        show(page)
        markup = "<img/src=x/onerror=window.pwned=1>"
        for target in (f"http://{markup}/", f"http://a.test:80{markup}", "http://198.51.100.1/"):
            done = pod.lab.run(
                "client",
                ("curl", "-s", "-m", "5", "--request-target", target, *PROXY, "http://x.test/"),
                check=False,
            )
            assert done.returncode in {0, 56}, done
        page.wait_for_text("198.51.100.1:80")
        page.wait_for_text("recent denials (")
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("window.pwned") is None
        assert page.problems == []
