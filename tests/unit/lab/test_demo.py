"""The `lab` command refuses in one line what it cannot do."""

import os

import pytest

from egress_router.errors import EXIT_CONFIGURATION, KernelError
from egress_router.lab.demo import run_lab
from egress_router.lab.scenario import Scenario, load_scenario, scenario_names


def test_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the error says so, and what to do."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(KernelError, match=r"^lab: network namespaces need root; .*sudo$"):
        run_lab([])


def test_names_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every missing program is named at once."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(KernelError, match=r"^lab: not found on this machine: ip, nft, tcpdump"):
        run_lab([])


@pytest.mark.parametrize("prefix", ["", "cni-", "egr-", "egr-1-1", "egr-1-1-pod", "egr-1-*-"])
def test_removes_only_labs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prefix: str
) -> None:
    """A prefix that no lab could have chosen is refused: other namespaces are not ours."""
    monkeypatch.setattr("egress_router.lab.demo.require_tools", lambda: None)
    with pytest.raises(SystemExit) as left:
        run_lab(["--remove", prefix])
    assert left.value.code == EXIT_CONFIGURATION
    assert f"'{prefix}' is no lab prefix" in capsys.readouterr().err


@pytest.mark.parametrize("name", scenario_names())
def test_scenarios_load(name: str) -> None:
    """Each module of the scenarios describes the mode it is named after, with checks to make."""
    scenario = load_scenario(name)
    assert isinstance(scenario, Scenario)
    assert scenario.mode == name
    titles = [check.title for check in scenario.checks]
    assert titles
    assert len(set(titles)) == len(titles)


def test_redirect_is_shown() -> None:
    """Redirect is among the modes shown."""
    assert "redirect" in scenario_names()
