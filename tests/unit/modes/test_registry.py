"""Modes as installed distributions offer them."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from egress_router import modes
from egress_router.errors import EXIT_UNEXPECTED


class SampleMode:
    name = "sample"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes entry points of the modes' group look installed."""

    def install(**entries: str) -> None:
        points = EntryPoints(
            EntryPoint(name.rstrip("_"), value, modes.GROUP) for name, value in entries.items()
        )
        monkeypatch.setattr(modes, "installed_modes", lambda: points)

    return install


def test_a_mode_is_loaded_by_its_entry_point(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point's name is the command; the class is imported only when asked for."""
    install(sample="sample_modes:SampleMode", broken="no.such.module:Mode")
    module = type(modes)("sample_modes")
    module.SampleMode = SampleMode  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(__import__("sys").modules, "sample_modes", module)
    assert modes.mode_names() == ("broken", "dns", "http", "redirect", "sample")
    assert modes.has_mode("sample")
    assert isinstance(modes.load_mode("sample"), SampleMode)


def test_an_unknown_mode_names_the_known_ones(install: Any) -> None:
    """The message is what an operator needs to correct the command."""
    install(socks="a:B")
    with pytest.raises(modes.UnknownModeError) as caught:
        modes.load_mode("htpp")
    assert str(caught.value) == "no mode is called 'htpp'; known modes: dns, http, redirect, socks"
    assert not modes.has_mode("htpp")
    assert caught.value.exit_code == EXIT_UNEXPECTED


def test_our_own_modes_are_those_of_the_packaging() -> None:
    """The table that saves the daemons a look at every package says the same as pyproject.toml."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    packaging = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    assert packaging["entry-points"][modes.GROUP] == modes.OWN


def test_nobody_takes_the_name_of_our_own_modes(install: Any) -> None:
    """Another package's `http` is not what runs in place of ours."""
    install(http="a:B")
    assert type(modes.load_mode("http")).__module__ == "egress_router.modes.http"


def test_two_packages_with_one_mode_are_refused(install: Any) -> None:
    """Which of two would run must not depend on the search path."""
    install(socks="a:B", socks_="c:D")
    with pytest.raises(modes.UnknownModeError, match="several packages offer the mode 'socks'"):
        modes.load_mode("socks")
