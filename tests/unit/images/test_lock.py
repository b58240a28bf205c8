"""The locks say what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib

from images.build import ROOT
from images.lock import build_tools


def test_the_compiler_is_the_one_that_was_asked_for() -> None:
    """Everywhere the same mypy compiles: in a checkout, and in an image's build stage."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = next(tool for tool in build_tools(project) if tool.startswith("mypy"))
    version = wanted.partition("==")[2]
    lock = (ROOT / "images/build.lock").read_text(encoding="utf-8")
    assert re.findall(r"^mypy==(\S+)", lock, re.MULTILINE) == [version]
