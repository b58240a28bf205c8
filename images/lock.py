"""Writes the locks, `images/*.lock`: exact versions with the digest of every archive.

`make images-lock`; needs the index. Floors come from pyproject.toml, names from the catalogue. All
of it is resolved together once, so that no two images hold different versions of one package.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from images.catalogue import IMAGES

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "images"
PYTHON = "3.13"  # of Debian 13
HEADER = "# Written by `make images-lock`; installed with --require-hashes --only-binary :all:.\n"


def floors(requirements: list[str]) -> dict[str, str]:
    """Requirements by the name of their distribution: `{"aiohttp": "aiohttp>=3.14.3"}`."""
    return {re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0]: line for line in requirements}


def resolve(requirements: list[str], *, constraints: str = "") -> str:
    """The lock of some requirements, as text."""
    (limits := FOLDER / ".constraints").write_text(constraints)
    try:
        done = subprocess.run(
            (
                *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet"),
                *("--python-version", PYTHON, "--python-platform", "linux"),
                *("--generate-hashes", "--only-binary", ":all:"),
                *("--no-header", "--no-annotate", "--constraint", str(limits)),
            ),
            input="\n".join(requirements),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        limits.unlink()
    return HEADER + done.stdout


def build_tools(project: dict[str, Any]) -> list[str]:
    """What makes the wheel and compiles its modules, of a project's pyproject.toml."""
    hooks = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    return [*project["build-system"]["requires"], *hooks["custom"]["dependencies"]]


def main() -> None:
    """Rewrites every lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = floors(project["project"]["dependencies"])
    everything = resolve(list(wanted.values()))
    versions = "\n".join(re.findall(r"^[\w.-]+==[^\s\\;]+", everything, re.MULTILINE))
    for image in IMAGES:
        lines = [wanted[name] for name in image.requires]
        text = resolve(lines, constraints=versions)
        (FOLDER / f"{image.program}.lock").write_text(text, encoding="utf-8")
    (FOLDER / "build.lock").write_text(resolve(build_tools(project)), encoding="utf-8")


if __name__ == "__main__":
    main()
