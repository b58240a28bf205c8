"""What `hatch_build.py` compiles: it is there, it is compiled, and it means the same then."""

from __future__ import annotations

import ast
import importlib
import tomllib
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
MODULES = HOOK["modules"]


@pytest.mark.compiled
@pytest.mark.parametrize("path", MODULES)
def test_it_is_compiled(path: str) -> None:
    """The tests of the compiled package do not run the sources by mistake."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert str(module.__file__).endswith(".so")


@pytest.mark.compiled
@pytest.mark.parametrize("path", MODULES)
def test_no_class_forgets_its_weak_references(path: str) -> None:
    """A compiled class that got them from an interpreted base does not clear them (mypyc 2.4).

    What holds such a reference reads freed memory later. Errors and what has no instances may.
    """
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and hasattr(kind, "__mypyc_attrs__")
        and kind.__weakrefoffset__
        and not issubclass(kind, Exception)
        and not {typing.Protocol, typing.Generic} & set(kind.__bases__)
    ]
    assert kinds == []


def test_the_list_names_what_there_is() -> None:
    """Every module of the list exists and is there once; compiling has to be asked for."""
    assert [path for path in MODULES if not (ROOT / path).is_file()] == []
    assert len(set(MODULES)) == len(MODULES)
    assert HOOK["enable-by-default"] is False


@pytest.mark.parametrize("path", MODULES)
def test_no_bound_of_a_slice_has_an_effect(path: str) -> None:
    """No `view[file.write(view) :]`: mypyc 2.4 evaluates the bounds of a memoryview's slice twice.

    So of everything that is no list, tuple, str or bytes (`try_gen_slice_op` of its irbuild).
    """
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    bounds = [
        bound
        for node in ast.walk(tree)
        if isinstance(node, ast.Slice)
        for bound in (node.lower, node.upper)
        if bound is not None
    ]
    assert [ast.unparse(bound) for bound in bounds if _may_have_an_effect(bound)] == []


def _may_have_an_effect(bound: ast.expr) -> bool:
    kinds = (ast.Call, ast.Await, ast.NamedExpr)
    return any(
        isinstance(node, kinds) and not ast.unparse(node).startswith("len(")
        for node in ast.walk(bound)
    )
