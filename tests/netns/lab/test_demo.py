"""The demonstration holds on a router made by hand, and each check fails where it should."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from egress_router.lab.demo import show
from egress_router.lab.scenario import Scenario, load_scenario
from egress_router.lab.world import Lab

MakeLab = Callable[..., Lab]

pytestmark = pytest.mark.netns

STANDIN = (sys.executable, "-I", "-S", str(Path(__file__).with_name("standin.py")))


def scenario(leaks: str = "", only: str | None = None) -> Scenario:
    """The redirect scenario for the stand-in, with one check or all."""
    whole = load_scenario("redirect")
    told = {"STANDIN_LEAKS": leaks}
    checks = tuple(check for check in whole.checks if only in {None, check.title})
    assert checks
    return replace(
        whole, environment=whole.environment | told, daemon_environment=told, checks=checks
    )


def test_every_check_holds(lab: MakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    """A right router passes every check, each told in one line."""
    held = show(scenario(), program=STANDIN)
    told = capsys.readouterr().out
    assert held, told
    assert "FAILED" not in told
    assert told.count("\nok ") == len(scenario().checks) + 1


@pytest.mark.parametrize(
    ("leak", "title"),
    [
        ("source", "TCP port"),
        ("connect", "outsider cannot connect"),
        ("route", "outsider cannot route"),
        ("cluster", "egress link down"),
        ("dns", "DNS stays in the cluster"),
        ("stop", "stop"),
    ],
)
def test_a_broken_promise_is_told(
    lab: MakeLab, capsys: pytest.CaptureFixture[str], leak: str, title: str
) -> None:
    """A router that breaks one promise fails the check of that promise."""
    assert not show(scenario(leak, title), program=STANDIN)
    assert f"\nFAILED  {title}: " in capsys.readouterr().out


def test_a_router_that_does_not_start_is_told(
    lab: MakeLab, capsys: pytest.CaptureFixture[str]
) -> None:
    """When init fails, its message is shown and no further check runs."""
    broken = (sys.executable, "-c", "import sys; sys.exit('EGRESS_SOURCE unspecified or invalid')")
    assert not show(scenario(), program=broken)
    told = capsys.readouterr().out
    assert "FAILED  start: RuntimeError: init ended with 1: EGRESS_SOURCE unspecified" in told
    assert "0 of 1 held" in told
