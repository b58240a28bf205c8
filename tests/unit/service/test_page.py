"""The status page holds what its policy promises, before any browser has seen it."""

from __future__ import annotations

import re

import pytest

from egress_router.service.page import load_page

PAGE, POLICY = load_page()
TEXT = PAGE.decode("utf-8")


@pytest.mark.parametrize(
    "way", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_no_way_from_text_to_markup(way: str) -> None:
    """Facts become text nodes; nothing that would parse them as markup or code is used."""
    assert way not in TEXT


def test_nothing_from_elsewhere() -> None:
    """No address but those of the SVG namespace and of its own endpoint."""
    assert re.findall(r"https?://[^\"' ]+", TEXT) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r"fetchText\(\"([^\"]+)\"\)", TEXT) == ["/status", "/metrics"]
    assert not re.search(r"<(img|iframe|object|embed|form)|@import|url\(", TEXT)


def test_the_policy_allows_the_page_alone() -> None:
    """One script and one style, by their hashes; requests to its own origin; nothing else."""
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules[kind])
    assert "unsafe" not in POLICY
    assert not re.search(r'\s(style|on[a-z]+)="', TEXT), "no attribute that the policy would stop"


def test_it_stays_small() -> None:
    """It is one answer of a moment, also over a port-forward."""
    assert len(PAGE) < 32 * 1024
