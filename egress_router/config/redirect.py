"""The redirect daemon's own settings, and init's where the daemon has them too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.config.init import InitConfig, RouterMode, parse_init
from egress_router.config.settings import read_seconds
from egress_router.config.text import Problems
from egress_router.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from egress_router.config.settings import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectConfig:
    """`init` None: the daemon was not told what init was; it keeps what it finds at its start."""

    announce_s: float
    init: InitConfig | None


def parse_redirect(environment: Environment) -> RedirectConfig:
    """The environment to the daemon's configuration; raises ConfigurationError with every problem.

    A daemon that has EGRESS_SOURCE or the pool has all of init's variables, as `legacy` mode does.
    The time to wait for a held address is cut to nothing: the daemon looks again by itself.
    """
    found: list[Problem] = []
    init = None
    if environment.is_set(variables.SOURCE) or environment.is_set(variables.SOURCE_POOL):
        try:
            init = parse_init(environment)
        except ConfigurationError as error:
            found.extend(error.problems)
    if init is not None:
        init = dataclasses.replace(
            init,
            mode=RouterMode.INIT if init.mode.redirects else init.mode,
            claim=dataclasses.replace(init.claim, timeout_s=0.0),
        )
    config = RedirectConfig(
        announce_s=read_seconds(
            environment,
            variables.ANNOUNCE,
            Problems(variables.ANNOUNCE.name, found),
            low=0,
            high=86_400,
        ),
        init=init,
    )
    if found:
        raise ConfigurationError(tuple(found))
    return config
