"""The status page in a real browser, on the real endpoint, with facts that a stranger chose."""

from __future__ import annotations

import asyncio
import re
import threading
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self

import pytest

from egress_router.service import metrics
from egress_router.service.admin import AdminEndpoint, open_port
from egress_router.service.health import Readiness
from egress_router.service.metric_registry import Metrics
from model.browser import CHROMIUM, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

PHONE, DESK = (390, 844), (1280, 800)
MARKUP = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
LONG = "x" * 4000
STATUS: dict[str, Any] = {
    "mode": MARKUP,
    "version": MARKUP,
    "ready": False,
    "reasons": [f"link: {MARKUP}"],
    "for_s": 61,
    "warnings": [MARKUP, LONG],
    "started": "2026-01-31T00:00:00Z",
    "source": "192.168.12.99",
    "gateways": [
        {"address": "192.168.12.1", "mac": "02:00:00:00:00:01", "state": "reachable"},
        {"address": MARKUP, "mac": None, "state": "failed"},
    ],
    "link": "macvlan0",
    "connections": 3,
    "traffic": {"rx_bytes": 1000, "tx_bytes": 2000},
    "reload": {"generation": 2, "result": "refused", "at": "2026", "problems": [MARKUP]},
    "recent_denials": [
        {"at": "2026", "times": 1, "client": "10.0.0.1", "target": MARKUP, "reason": LONG}
    ],
    MARKUP: [{MARKUP: MARKUP, "state": MARKUP}],
    "ports": [],
    "process": {"loop_lag_s": 0.001, "memory_bytes": 1024},
}


class Daemon:
    """The admin endpoint in a thread of its own, on a port of the loopback.

    `status` may change; `busy`: each answer tells of more traffic.
    """

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status
        self.requests = 0
        self.busy = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    def _tell(self) -> dict[str, Any]:
        if not self.busy:
            return self.status
        self.requests += 1000
        return {**self.status, "traffic": {"rx_bytes": self.requests * 10**6, "tx_bytes": 0}}

    async def _serve(self) -> None:
        registry = Metrics()
        registry.provide(metrics.HTTP_REQUESTS, lambda: {("request", "allowed"): self.requests})
        endpoint = AdminEndpoint(
            readiness=Readiness("http"),
            status=self._tell,
            metrics=registry,
            read=partial(asyncio.sleep, 0),
        )
        listener = open_port(ip_address("127.0.0.1"), 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        endpoint.add([listener])
        self._task = asyncio.ensure_future(endpoint.serve())
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
def daemon() -> Iterator[Callable[[dict[str, Any]], Daemon]]:
    """Starts an endpoint that tells a document."""
    started: list[Daemon] = []

    def start(status: dict[str, Any]) -> Daemon:
        started.append(Daemon(status).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A browser of its own."""
    with Page(None, tmp_path) as page:
        yield page


def test_markup_stays_text(daemon: Callable[..., Daemon], page: Page) -> None:
    """Names that look like markup are shown as they are, wherever they stand; nothing runs."""
    page.open(daemon(STATUS).url)
    page.wait_for_text(f"link: {MARKUP}")
    page.wait_for("document.querySelectorAll('table').length === 2")
    assert page.evaluate("document.querySelectorAll('img, main script, iframe').length") == 0
    assert page.evaluate("window.pwned") is None
    text = page.text()
    assert text.count(MARKUP) >= 9
    assert f"Egress Router · {MARKUP}" in text
    assert "no answer" in text
    assert page.problems == []


def test_the_policy_is_in_force(daemon: Callable[..., Daemon], page: Page) -> None:
    """Even a script that got into the page could not run another one, nor ask another server."""
    one, other = daemon(STATUS), daemon(STATUS)
    page.open(one.url)
    page.wait_for_text("not ready")
    page.evaluate("""
      document.head.append(Object.assign(
        document.createElement('script'), {textContent: 'window.pwned = 1'}));
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.pwned = 2">');
    """)
    page.evaluate(f"fetch('{other.url}').then(() => window.pwned = 3, () => window.barred = 1)")
    page.wait_for("window.barred")
    assert page.evaluate("window.pwned") is None
    assert len(page.problems) >= 3, "the browser says what its policy has stopped"


@pytest.mark.parametrize(("width", "height"), [PHONE, DESK])
def test_it_fits_the_screen(
    width: int, height: int, daemon: Callable[..., Daemon], page: Page
) -> None:
    """Nothing sticks out sideways, not even the longest word, and text is no smaller than 13 px."""
    page.look(width, height, "light")
    page.open(daemon(STATUS).url)
    page.wait_for_text("not ready")
    page.wait_for("document.querySelectorAll('.plot').length > 0")
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    sizes = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.textContent.trim())"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 13


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(…)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"[0-9]+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible(scheme: str, daemon: Callable[..., Daemon], page: Page) -> None:
    """In both colour schemes every text stands off its ground by 4.5 to 1 (WCAG AA)."""
    page.look(*PHONE, scheme)
    page.open(daemon(STATUS).url)
    page.wait_for_text("not ready")
    pairs = page.evaluate("""
      [...document.querySelectorAll('h1, h2, dt, dd, td, li, .pill, .muted, .legend span')]
        .map(element => {
          let ground = element;
          while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)')
            ground = ground.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
        })""")
    assert len(pairs) > 20
    for text, ground in {tuple(pair) for pair in pairs}:
        bright, dim = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)
    assert (luminance(pairs[0][1]) < 0.1) == (scheme == "dark")


def test_it_is_live(daemon: Callable[..., Daemon], page: Page) -> None:
    """It follows the daemon by itself: plots, readiness, and that it does not answer any more."""
    one = daemon(STATUS)
    page.open(one.url)
    page.wait_for_text("not ready")
    one.busy = True
    one.status = {
        **STATUS,
        "ready": True,
        "reasons": [],
        "warnings": [],
        "reload": {"result": "none"},
    }
    page.wait_for_text("for 1m 1s")
    page.wait_for("document.getElementById('pill').textContent === 'ready'")
    page.wait_for("document.querySelectorAll('.alerts li').length === 0")
    page.wait_for(
        "[...document.querySelectorAll('polyline')].some(line => "
        "new Set(line.getAttribute('points').split(' ').map(p => p.split(',')[1])).size > 1)"
    )
    page.wait_for("/received [0-9.]+ MiB\\/s/.test(document.body.innerText)")
    page.wait_for("/allowed [0-9.]+\\/s/.test(document.body.innerText)")
    one.stop()
    page.wait_for_text("the daemon does not answer")
    assert "192.168.12.99" in page.text(), "what was known stays to be seen"
    assert set(page.requests) <= {one.url, f"{one.url}status", f"{one.url}metrics"}


def test_ten_thousand_rows(daemon: Callable[..., Daemon], page: Page) -> None:
    """Of a long list those in trouble and the busiest are shown first; more on request."""
    rows = [
        {
            "port": port,
            "target": f"n{port}.test:80",
            "active": 0,
            "up_bytes": int(port == 7),
            "state": "open",
        }
        for port in range(1, 10_001)
    ]
    rows[9_000]["state"] = "closed"
    page.open(daemon({**STATUS, "ready": True, "ports": rows}).url)
    page.wait_for_text("ports (10\u202f000)")
    shown = "[...document.querySelectorAll('[data-label=port]')].map(cell => cell.textContent)"
    first = page.evaluate(shown)
    assert (first[:3], len(first)) == (["9001", "7", "1"], 20)
    page.evaluate("[...document.querySelectorAll('button')].at(-1).click()")
    assert len(page.evaluate(shown)) == 500
    page.wait_for("document.querySelectorAll('[data-label=port]').length === 500")
    assert page.problems == []
