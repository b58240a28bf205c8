import ast
import re
from pathlib import Path

import pytest

import egress_router
from egress_router.config import variables
from egress_router.config.settings import Environment
from egress_router.config.variables import PREFIX, VARIABLES, Variable, unknown_variables

PACKAGE = Path(egress_router.__file__).parent
NAMES = [variable.name for variable in VARIABLES]


def string_constants(path: Path) -> set[str]:
    """Every string of a module that is a variable's name and nothing else."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"EGRESS_[A-Z0-9_]+", node.value)
    }


def test_each_variable_once() -> None:
    """A name stands in the table once, and begins with our prefix or Kubernetes'."""
    assert len(NAMES) == len(set(NAMES))
    assert all(name.startswith((PREFIX, "KUBERNETES_")) for name in NAMES)


def test_the_table_is_complete() -> None:
    """Every name that any module of the product spells is in the table."""
    spelled = set().union(*map(string_constants, PACKAGE.rglob("*.py")))
    # The lab makes environments for pods of both kinds, so it spells names too.
    assert spelled - {PREFIX} <= set(NAMES)


def test_every_row_of_init_is_used() -> None:
    """Every row that names init is read by some module."""
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if path.name != "variables.py"
    )
    rows = [
        name
        for name, value in vars(variables).items()
        if isinstance(value, Variable) and "init" in value.programs
    ]
    not_read = [row for row in rows if not re.search(rf"\b{row}\b", sources)]
    assert not_read == []


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_row(variable: Variable) -> None:
    """A row says who reads the variable and what it means; times name their unit."""
    assert variable.meaning
    assert not variable.meaning.endswith(".")
    assert variable.programs
    assert set(variable.programs) <= {"init", "redirect", "http", "dns"}
    if variable.name.endswith("_SECONDS"):
        assert variable.unit == "s"
        assert variable.default is not None or "unset:" in variable.meaning
    if variable.name.endswith("_FILE"):
        assert variable.unit == "path"
        assert variable.name.removesuffix("_FILE") in NAMES
    assert Environment(variables={}).get(variable) == variable.default


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EGRESS_SOURC", "EGRESS_SOURCE"),
        ("EGRESS_DESTINATIONS", "EGRESS_DESTINATION"),
        ("EGRESS_GATWAY", "EGRESS_GATEWAY"),
        ("EGRESS_PARENT_NETNAMESPACE", "EGRESS_PARENT_NETNS"),
        ("EGRESS_LOGLEVEL", "EGRESS_LOG_LEVEL"),
    ],
)
def test_misspelled_names_are_noticed(name: str, meant: str) -> None:
    """A name close to one of ours is a warning that names ours."""
    assert unknown_variables([name]) == (f"unknown variable {name}: did you mean {meant}?",)


@pytest.mark.parametrize("name", [*NAMES, "PATH", "EGRESS_TEAM_CONTACT", "SOURCE_EGRESS"])
def test_other_names_are_left_alone(name: str) -> None:
    """Our own names, and names that are like none of ours, give no warning."""
    assert unknown_variables([name]) == ()


SERVICE_LINKS = (
    "EGRESS_1_SERVICE_HOST",
    "EGRESS_1_SERVICE_PORT",
    "EGRESS_1_SERVICE_PORT_HTTP",
    "EGRESS_1_PORT",
    "EGRESS_1_PORT_80_TCP",
    "EGRESS_1_PORT_80_TCP_PROTO",
    "EGRESS_1_PORT_80_TCP_PORT",
    "EGRESS_1_PORT_80_TCP_ADDR",
)


def test_services_of_the_namespace_are_no_mistakes() -> None:
    """What Kubernetes tells of a Service gives no warning; a slip beside it does."""
    assert unknown_variables(SERVICE_LINKS) == ()
    assert unknown_variables(["EGRESS_1_PORT"]) != ()
    (warning,) = unknown_variables(["EGRESS_SERVICE_HOST", "EGRESS_PORT", "EGRESS_SOURC"])
    assert "EGRESS_SOURC:" in warning
