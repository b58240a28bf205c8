"""One small program per mode, each behind the one `Mode` protocol and found by its entry point.

A mode is a class without constructor arguments, named by an entry point of the group
`egress_router.modes`; the entry point's name is the mode's command. A new mode is one module and
one line of packaging, in this distribution or in another one.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from egress_router.errors import ConfigurationError, EgressRouterError, Problem
from egress_router.service.daemon import Mode, Service
from egress_router.service.run import run_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress_router.config.check import Check, Checked
    from egress_router.config.settings import Environment

__all__ = [
    "GROUP",
    "Checkable",
    "Mode",
    "Service",
    "UnknownModeError",
    "load_mode",
    "mode_checks",
    "mode_names",
    "run_mode",
]

GROUP = "egress_router.modes"


class UnknownModeError(EgressRouterError):
    """No installed distribution offers the mode that was asked for."""


@runtime_checkable
class Checkable(Protocol):
    """A mode that `egress-router check` can be asked about."""

    def check(self, environment: Environment, /) -> Checked:
        """What the environment describes; pure, raises ConfigurationError with every problem."""


def mode_checks() -> dict[str, Callable[[], Check]]:
    """What loads each mode's check, by the mode's name; nothing is imported before it is called."""
    return {name: partial(_load_check, name) for name in mode_names()}


def mode_names() -> tuple[str, ...]:
    """The names of all installed modes, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load_mode(name: str) -> Mode[Any]:
    """Imports one mode; raises UnknownModeError, which names the known ones."""
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        known = ", ".join(mode_names()) or "none: the distribution egress-router is not installed"
        raise UnknownModeError(f"no mode is called '{name}'; known modes: {known}")
    if len(found) > 1:
        raise UnknownModeError(f"several packages offer the mode '{name}': {', '.join(found)}")
    make: type[Mode[Any]] = next(iter(found.values())).load()
    return make()


def run_mode(name: str, environment: Environment) -> int:
    """Runs the daemon of one mode to its end and returns its exit code.

    Raises UnknownModeError and ConfigurationError before anything was touched.
    """
    return run_daemon(load_mode(name), environment)


def _load_check(name: str) -> Check:
    mode = load_mode(name)
    if isinstance(mode, Checkable):
        return mode.check
    message = f"the mode '{name}' has nothing to check"
    raise ConfigurationError((Problem(variable="check", message=message),))
