"""The README says what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from egress_router.config.init import parse_init
from egress_router.config.settings import Environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = runpy.run_path(str(ROOT / "tests" / "readme.py"))


def test_tables_match_the_code() -> None:
    """Variables, metrics and events stand in the README exactly as the code declares them."""
    assert GENERATED["render"](README) == README, "run: python tests/readme.py"


@pytest.mark.parametrize("page", GENERATED["PAGES"], ids=lambda page: page.name)
def test_pages_match_the_code(page: Path) -> None:
    """Each image's page has exactly the variables that its program reads."""
    text = page.read_text(encoding="utf-8")
    assert GENERATED["render"](text, page) == text, "run: python tests/readme.py"


def test_links_lead_somewhere() -> None:
    """Every relative link of the README names a file that is there."""
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing


def test_every_form_of_a_line_is_accepted() -> None:
    """The lines that the README's table explains are a valid configuration, all in one."""
    table = README.split("| line | meaning |\n| --- | --- |\n", 1)[1].split("\n\n", 1)[0]
    lines = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    variables = {
        "EGRESS_SOURCE": "192.168.12.99/24, 2001:db8:12::99/64",
        "EGRESS_GATEWAY": "192.168.12.1, 2001:db8:12::1",
        "EGRESS_DESTINATION": "\n".join(lines),
    }
    config = parse_init(Environment(variables=variables))
    assert [(rule.first, rule.last) for rule in config.destinations.rules] == [
        (80, 80),
        (8080, 8080),
        (5000, 5010),
        (443, 443),
    ]
    assert len(config.destinations.fallbacks) == 1
