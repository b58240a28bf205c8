"""The redirect daemon's own settings, and init's where the daemon has them too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.changes import Entry
from egress_router.config.destinations import Destinations, parse_destinations
from egress_router.config.identity import Identity
from egress_router.config.init import InitConfig, RouterMode, parse_init
from egress_router.config.settings import read_seconds
from egress_router.config.text import Problems
from egress_router.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress_router.config.settings import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectConfig:
    """`init` None: the daemon was not told what init was; it keeps what it finds at its start.

    `destinations`: init's, or what their file holds where the daemon knows that alone.
    """

    announce_s: float
    init: InitConfig | None
    destinations: Destinations = field(default_factory=Destinations)


def parse_redirect(environment: Environment) -> RedirectConfig:
    """The environment to the daemon's configuration; raises ConfigurationError with every problem.

    A daemon that has EGRESS_SOURCE or the pool has all of init's variables, as `legacy` mode does.
    The time to wait for a held address is cut to nothing: the daemon looks again by itself. Without
    them the file of destinations tells only what init may have been told, and what is wrong in it
    is init's business.
    """
    return _parse(environment, strict=False)


def parse_redirect_reload(environment: Environment) -> RedirectConfig:
    """The same for a reload, where a wrong file of destinations is always an error."""
    return _parse(environment, strict=True)


def list_entries(destinations: Destinations) -> Iterator[Entry]:
    """The destinations in words, for comparison."""
    for rule in destinations.rules:
        ports = (
            f"port {rule.first}" if rule.first == rule.last else f"ports {rule.first}-{rule.last}"
        )
        target = f" port {rule.target_port or rule.first}" if rule.first == rule.last else ""
        yield Entry(
            what=f"{rule.protocol} {ports} (IPv{rule.address.version})",
            target=f"{rule.address}{target}",
            line=rule.line,
        )
    for fallback in destinations.fallbacks:
        what = f"everything else (IPv{fallback.address.version})"
        yield Entry(what=what, target=str(fallback.address), line=fallback.line)


def _parse(environment: Environment, *, strict: bool) -> RedirectConfig:
    found: list[Problem] = []
    init = None
    destinations = Destinations()
    if environment.is_set(variables.SOURCE) or environment.is_set(variables.SOURCE_POOL):
        try:
            init = parse_init(environment)
        except ConfigurationError as error:
            found.extend(error.problems)
    if init is not None:
        destinations = init.destinations
        init = dataclasses.replace(
            init,
            mode=RouterMode.INIT if init.mode.redirects else init.mode,
            claim=dataclasses.replace(init.claim, timeout_s=0.0),
        )
    elif not found and environment.is_set(variables.DESTINATION_FILE):
        destinations = _parse_destinations(environment, found if strict else [])
    config = RedirectConfig(
        announce_s=read_seconds(
            environment,
            variables.ANNOUNCE,
            Problems(variables.ANNOUNCE.name, found),
            low=0,
            high=86_400,
        ),
        init=init,
        destinations=destinations,
    )
    if found:
        raise ConfigurationError(tuple(found))
    return config


def _parse_destinations(environment: Environment, found: list[Problem]) -> Destinations:
    problems = Problems(variables.DESTINATION.name, found)
    before = len(found)
    text = environment.text(variables.DESTINATION, variables.DESTINATION_FILE, problems)
    if len(found) > before:
        return Destinations()
    return parse_destinations(text, Identity(sources=(), gateways=()), problems)
