"""The status page in a real browser, on the real endpoint, with facts that a stranger chose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model.browser import CHROMIUM, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ROOT = Path(__file__).parents[2]
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
    """The admin endpoint as a process, on a port of the loopback, and the facts it tells."""

    def __init__(self, path: Path, status: dict[str, Any]) -> None:
        self._path = path
        self.tell(status)
        script = Path(__file__).with_name("page_daemon.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def tell(self, status: dict[str, Any]) -> None:
        """What it says from now on."""
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps(status), encoding="utf-8")
        written.rename(self._path)

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Daemon]]:
    """Starts an endpoint that tells a document."""
    started: list[Daemon] = []

    def start(status: dict[str, Any]) -> Daemon:
        started.append(Daemon(tmp_path / f"{len(started)}.json", status))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests; to start one takes longer than most of them."""
    with Page(None, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    """The browser with an empty page, and nothing to complain of yet."""
    browser.forget()
    browser.look(*DESK, "light")
    return browser


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
    calm = {"ready": True, "reasons": [], "warnings": [], "reload": {"result": "none"}}
    one.tell({**STATUS, **calm, "grow": True})
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
