"""The README says what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from egress_router.config.init import parse_init
from egress_router.config.settings import Environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = runpy.run_path(str(ROOT / "tests" / "readme.py"))


def test_tables_match_the_code() -> None:
    """Variables, metrics and events stand in the README exactly as the code declares them."""
    assert GENERATED["render"](README) == README, "run: python tests/readme.py"


def test_links_lead_somewhere() -> None:
    """Every relative link of the README names a file that is there."""
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing


def test_example_is_accepted() -> None:
    """The destinations of the README's pod are a valid configuration."""
    block = README.split("value: |-\n", 1)[1].split("        - {name: EGRESS_ROUTER_MODE", 1)[0]
    values = dict(re.findall(r"\{name: (EGRESS_\w+), value: ([^}]+)\}", README))
    config = parse_init(Environment(variables={**values, "EGRESS_DESTINATION": block}))
    assert [(rule.first, rule.last) for rule in config.destinations.rules] == [
        (80, 80),
        (8080, 8080),
        (8443, 8443),
        (5000, 5010),
    ]
