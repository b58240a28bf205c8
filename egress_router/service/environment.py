"""Reads the files that variables point to, at the start and at each reload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from egress_router.config.settings import Environment
from egress_router.config.variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress_router.config.variables import Variable

FILE_SUFFIX = "_FILE"
# A ConfigMap holds 1 MiB at most; a hundred thousand lines are 4 MiB.
FILE_BYTES_MAX = 16 * 1024 * 1024


def read_environment(variables: Mapping[str, str]) -> Environment:
    """These variables, and the text of every file that one of ours points to."""
    files: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for variable in VARIABLES:
        path = variables.get(variable.name, "").strip()
        if not path or not variable.name.endswith(FILE_SUFFIX):
            continue
        try:
            with Path(path).open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
            if len(data) > FILE_BYTES_MAX:
                unreadable[path] = f"expected at most {FILE_BYTES_MAX} bytes"
                continue
            files[path] = data.decode("utf-8")
        except OSError as error:
            unreadable[path] = error.strerror or str(error)
        except UnicodeDecodeError as error:
            unreadable[path] = f"expected UTF-8 text, found byte {error.object[error.start]:#04x}"
    return Environment(
        variables=variables, files=files, unreadable=unreadable, hostname=os.uname().nodename
    )


def file_variables(program: str) -> tuple[str, ...]:
    """The variables that name a file of a program's configuration."""
    return tuple(variable.name for variable in _file_variables(program))


def watched_files(environment: Environment, program: str) -> tuple[str, ...]:
    """The files that a program's configuration comes from."""
    return tuple(filter(None, map(environment.get, _file_variables(program))))


def _file_variables(program: str) -> tuple[Variable, ...]:
    return tuple(
        variable
        for variable in VARIABLES
        if variable.name.endswith(FILE_SUFFIX) and program in variable.programs
    )
