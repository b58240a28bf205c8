"""Compiles the package's hot modules ahead of time, with mypyc, where a build asks for it.

`HATCH_BUILD_HOOKS_ENABLE=1 pip wheel --no-deps .` makes a wheel with them, for one version of
Python and one platform; without the variable a wheel is pure Python. The list is in pyproject.toml.

1. Nothing is written beside the sources: a checkout never holds a compiled module by accident.
2. A compiled module lies beside its source, which Python then passes over: it is there for the
   lines of a traceback.
3. mypy sees the package and the standard library alone, and no configuration, so what comes out is
   the same in a checkout's environment and in an image's build stage.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "egress_router.compiled"  # all of them in one library, egress_router/compiled__mypyc….so
MYPY = ("--config-file=", "--no-site-packages", "--ignore-missing-imports")


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]  # of any builder
    """What hatchling calls before and after it writes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and has the wheel take what came out."""
        if version == "editable":
            return
        self.scratch = Path(tempfile.mkdtemp(prefix="mypyc-"))
        build_data["force_include"].update(compile_modules(self.config["modules"], self.scratch))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 (hatchling's)
        """Removes what the compilers wrote."""
        if version != "editable":
            shutil.rmtree(self.scratch)


def compile_modules(modules: list[str], scratch: Path) -> dict[str, str]:
    """Compiles modules of the package in the working directory; path in the wheel by file."""
    # The tools are there where the hook is enabled, and only there.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415

    extensions = mypycify(
        [*MYPY, f"--cache-dir={scratch / 'mypy'}", *modules],
        opt_level="3",
        debug_level="0",
        target_dir=str(scratch / "c"),
        group_name=GROUP,
    )
    command = Distribution({"name": "egress_router", "ext_modules": extensions}).get_command_obj(
        "build_ext"
    )
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "tmp")
    command.ensure_finalized()
    command.run()
    return {path: str(Path(path).relative_to(scratch / "lib")) for path in command.get_outputs()}
