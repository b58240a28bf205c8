"""Modes as installed distributions offer them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
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
        monkeypatch.setattr(modes, "entry_points", points.select)

    return install


def test_a_mode_is_loaded_by_its_entry_point(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point's name is the command; the class is imported only when asked for."""
    install(sample="sample_modes:SampleMode", broken="no.such.module:Mode")
    module = type(modes)("sample_modes")
    module.SampleMode = SampleMode  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(__import__("sys").modules, "sample_modes", module)
    assert modes.mode_names() == ("broken", "sample")
    assert isinstance(modes.load_mode("sample"), SampleMode)


def test_an_unknown_mode_names_the_known_ones(install: Any) -> None:
    """The message is what an operator needs to correct the command."""
    install(redirect="a:B", http="c:D")
    with pytest.raises(modes.UnknownModeError) as caught:
        modes.load_mode("htpp")
    assert str(caught.value) == "no mode is called 'htpp'; known modes: http, redirect"
    assert caught.value.exit_code == EXIT_UNEXPECTED


def test_without_an_installation_the_message_says_so(install: Any) -> None:
    """In a bare checkout there are no entry points at all."""
    install()
    with pytest.raises(modes.UnknownModeError, match="egress-router is not installed"):
        modes.load_mode("http")


def test_two_packages_with_one_mode_are_refused(install: Any) -> None:
    """Which of two would run must not depend on the search path."""
    install(http="a:B", http_="c:D")
    with pytest.raises(modes.UnknownModeError, match="several packages offer the mode 'http'"):
        modes.load_mode("http")
