"""One file per scenario: environment, facts, and exactly what is made of them."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from egress_router.plan.desired import desired_state
from egress_router.plan.diff import LoadTable, diff_state
from model import worlds
from model.environments import PLAIN
from model.kernel import FakeKernel
from model.scenarios import SCENARIOS

GOLDEN = Path(__file__).with_name("golden")
NODE = "/proc/1/ns/net"


def render(value: object) -> str:
    """A value of the plan in one line: what is as usual is left out."""
    if not dataclasses.is_dataclass(value):
        return ",".join(map(render, value)) if isinstance(value, tuple) else str(value)
    words = [type(value).__name__]
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if held != field.default and held is not None and field.repr:
            words.append(f"{field.name}={render(held)}")
    return f"({' '.join(words)})"


def section(title: str, lines: Iterable[str]) -> str:
    """A part of a golden file."""
    return "\n".join([f"=== {title}", *lines, ""])


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, golden: Callable[[str, str], None]) -> None:
    """A scenario gives exactly the steps and the ruleset that its golden file shows."""
    scenario = SCENARIOS[name]
    config = scenario.configure(NODE)
    observed = FakeKernel(scenario.world).observe()
    parents = worlds.NODE if scenario.has_node else None
    desired = desired_state(config, observed, parents)
    environment = PLAIN | scenario.environment
    steps = diff_state(observed, desired)
    lines = ["(LoadTable)" if isinstance(step, LoadTable) else render(step) for step in steps]
    text = "\n".join(
        [
            section(
                "environment",
                (
                    f"{variable}={' | '.join(text.replace('{node}', NODE).splitlines())}"
                    for variable, text in sorted(environment.items())
                ),
            ),
            section(
                "facts",
                map(render, (*observed.links, *observed.addresses, *observed.routes)),
            ),
            section("steps", lines),
            section("ruleset", [desired.table.rstrip("\n")]),
        ]
    )
    golden(name, text)


def test_no_golden_file_is_left_over() -> None:
    """Every golden file belongs to a scenario."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} <= set(SCENARIOS)
