"""What the demonstration shows of one mode: a world, an environment, and checks that are values."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from egress_router.lab import scenarios
from egress_router.lab.spec import LabSpec
from egress_router.lab.world import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a check ended; `seen` says in one line what was done and what was seen."""

    ok: bool
    seen: str


Act = Callable[[Lab], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise, and the function that tries it; an exception counts as broken."""

    title: str
    act: Act


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One mode in one world.

    `arrange` starts the peers. `environment` is what init gets; the daemon, named by `mode`, gets
    `daemon_environment`: as in the originals' pod specs it knows neither source nor gateway.
    """

    mode: str
    summary: str
    arrange: Callable[[Lab], None]
    environment: Mapping[str, str]
    checks: tuple[Check, ...]
    spec: LabSpec = field(default_factory=LabSpec)
    daemon_environment: Mapping[str, str] = field(default_factory=dict)


def scenario_names() -> tuple[str, ...]:
    """The modes that have a scenario."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__)))


def load_scenario(name: str) -> Scenario:
    """The scenario of a mode; ModuleNotFoundError if it has none."""
    scenario = importlib.import_module(f"{scenarios.__name__}.{name}").SCENARIO
    if not isinstance(scenario, Scenario):
        raise TypeError(f"{scenarios.__name__}.{name}.SCENARIO is no Scenario")
    return scenario
