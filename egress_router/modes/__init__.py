"""One small program per mode, each behind the one `Mode` protocol and found by its entry point.

A mode is a class without constructor arguments, named by an entry point of the group
`egress_router.modes`; the entry point's name is the mode's command. A new mode is one module and
one line of packaging, in another distribution or in this one, where it is a line of OWN as well:
to read what packages say of themselves is a tenth of a daemon's start.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from egress_router.errors import ConfigurationError, EgressRouterError, Problem
from egress_router.service.daemon import Mode, Service
from egress_router.service.run import run_daemon

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoints

    from egress_router.config.check import Check, Checked
    from egress_router.config.settings import Environment

__all__ = [
    "GROUP",
    "OWN",
    "Checkable",
    "Mode",
    "Service",
    "UnknownModeError",
    "has_mode",
    "load_mode",
    "mode_checks",
    "mode_names",
    "run_mode",
]

GROUP = "egress_router.modes"
OWN = {  # as in pyproject.toml
    "dns": "egress_router.modes.dns:DnsMode",
    "http": "egress_router.modes.http:HttpMode",
    "redirect": "egress_router.modes.redirect:RedirectMode",
}


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
    return tuple(sorted({*OWN, *(entry.name for entry in installed_modes())}))


def has_mode(name: str) -> bool:
    """Whether there is a mode of that name."""
    return name in OWN or name in mode_names()


def installed_modes() -> EntryPoints:
    """What installed distributions, this one among them, say of their modes."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - see above

    return entry_points(group=GROUP)


def load_mode(name: str) -> Mode[Any]:
    """Imports one mode, its own or another distribution's.

    Raises UnknownModeError, which names the known ones. Nobody can take the name of one of OWN.
    """
    if own := OWN.get(name):
        module, _, attribute = own.partition(":")
        own_mode: type[Mode[Any]] = getattr(import_module(module), attribute)
        return own_mode()
    found = {entry.value: entry for entry in installed_modes() if entry.name == name}
    if not found:
        raise UnknownModeError(
            f"no mode is called '{name}'; known modes: {', '.join(mode_names())}"
        )
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
