"""Settings that every daemon has, whatever its mode."""

from __future__ import annotations

from dataclasses import dataclass

from egress_router.config import variables
from egress_router.config.settings import (
    Environment,
    read_choice,
    read_link_name,
    read_port,
    read_seconds,
)
from egress_router.config.text import Problems, parse_decimal, quote
from egress_router.errors import ConfigurationError, Problem

LOG_FORMATS = ("json", "text")
LOG_LEVELS = ("debug", "info", "warning", "error")
WORKERS_AUTO = "auto"
WORKERS_MAX = 64
SAMPLED_MAX = 1_000_000
_CONNECTION_LOG = {"full": 1, "off": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """`format` None: text on a terminal, else json."""

    format: str | None
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """What lifecycle, logs, admin endpoint and watch need to know.

    `workers` None: as many as there are processors to use. `record_every`: one in so many
    connections has its line in the log; 0: none. `warnings`: variables that look mistyped.
    """

    log: LogConfig
    admin_port: int | None
    watch_s: float
    reload_s: float
    interface: str | None
    workers: int | None
    record_every: int = 1
    warnings: tuple[str, ...] = ()


def parse_log(environment: Environment, found: list[Problem]) -> LogConfig:
    """The log's format and level; problems are appended to `found`."""
    format_problems = Problems(variables.LOG_FORMAT.name, found)
    level_problems = Problems(variables.LOG_LEVEL.name, found)
    level = read_choice(environment, variables.LOG_LEVEL, level_problems, LOG_LEVELS)
    if environment.is_set(variables.ROUTER_DEBUG) or environment.is_set(variables.DNS_DEBUG):
        level = "debug"
    return LogConfig(
        format=read_choice(environment, variables.LOG_FORMAT, format_problems, LOG_FORMATS),
        level=level or "info",
    )


def parse_connection_log(text: str, problems: Problems) -> int:
    """`full`, `off` or `sampled:N`: one in how many connections has a line, 0 for none."""
    if text in _CONNECTION_LOG:
        return _CONNECTION_LOG[text]
    kind, colon, number = text.partition(":")
    every = parse_decimal(number)
    if kind == "sampled" and colon and every is not None and 2 <= every <= SAMPLED_MAX:
        return every
    problems.add(
        f"{quote(text)} is invalid: expected full, off or sampled:N, N from 2 to {SAMPLED_MAX}"
    )
    return 1


def parse_daemon(environment: Environment) -> DaemonConfig:
    """The settings all daemons share; raises ConfigurationError with every problem."""
    found: list[Problem] = []
    config = DaemonConfig(
        log=parse_log(environment, found),
        admin_port=read_port(
            environment, variables.ADMIN_PORT, Problems(variables.ADMIN_PORT.name, found)
        ),
        watch_s=read_seconds(
            environment, variables.WATCH, Problems(variables.WATCH.name, found), low=0.2, high=60
        ),
        reload_s=read_seconds(
            environment, variables.RELOAD, Problems(variables.RELOAD.name, found), low=0, high=3600
        ),
        interface=read_link_name(
            environment, variables.INTERFACE, Problems(variables.INTERFACE.name, found)
        ),
        workers=_parse_workers(environment, found),
        record_every=parse_connection_log(
            environment.get(variables.CONNECTION_LOG) or "",
            Problems(variables.CONNECTION_LOG.name, found),
        ),
        warnings=variables.unknown_variables(environment.variables),
    )
    if found:
        raise ConfigurationError(tuple(found))
    return config


def _parse_workers(environment: Environment, found: list[Problem]) -> int | None:
    text = environment.get(variables.WORKERS) or WORKERS_AUTO
    if text == WORKERS_AUTO:
        return None
    count = parse_decimal(text)
    if count is not None and 1 <= count <= WORKERS_MAX:
        return count
    Problems(variables.WORKERS.name, found).add(
        f"{quote(text)} is invalid: expected `{WORKERS_AUTO}` or a whole number from 1 to "
        f"{WORKERS_MAX}"
    )
    return None
