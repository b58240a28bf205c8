"""The HTTP proxy's settings: its rules, port, limits and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egress_router.config import variables
from egress_router.config.check import Checked
from egress_router.config.http_rules import HttpRules, parse_http_rules, render_http_check
from egress_router.config.settings import read_count, read_port, read_seconds
from egress_router.config.text import Problems
from egress_router.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from egress_router.config.settings import Environment
    from egress_router.config.variables import Variable

DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Sizes and counts. `connections` None: as many as the limit of descriptors allows."""

    connections: int | None
    head_bytes: int
    fields: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimes:
    """Seconds; the variables' table says what each of them bounds."""

    head_s: float
    keepalive_s: float
    answer_s: float
    body_s: float
    tunnel_s: float
    dial_s: float
    drain_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """One HTTP proxy, validated as far as text alone can be."""

    rules: HttpRules
    port: int
    limits: HttpLimits
    times: HttpTimes


def parse_http(environment: Environment) -> HttpConfig:
    """The environment to the proxy it describes; raises ConfigurationError with every problem."""
    found: list[Problem] = []
    rules = _parse_rules(environment, found)
    port = read_port(environment, variables.HTTP_PORT, Problems(variables.HTTP_PORT.name, found))
    limits = _parse_limits(environment, found)
    times = _parse_times(environment, found)
    if rules is None or port is None or limits is None or found:
        raise ConfigurationError(tuple(found))
    return HttpConfig(rules=rules, port=port, limits=limits, times=times)


def parse_http_list(environment: Environment) -> HttpRules:
    """The rules alone; raises ConfigurationError with every problem of the list."""
    found: list[Problem] = []
    rules = _parse_rules(environment, found)
    if rules is None:
        raise ConfigurationError(tuple(found))
    return rules


def check_http(environment: Environment) -> Checked:
    """What the proxy would do: the rules as an object; port, rules and warnings as text."""
    config = parse_http(environment)
    document: dict[str, Any] = render_http_check(config.rules)
    warnings = tuple(map(str, config.rules.warnings))
    return Checked(document=document, text=_render(config), warnings=warnings)


def _render(config: HttpConfig) -> str:
    lines = [f"port         {config.port}"]
    lines += [
        f"line {rule.line:<7} {rule.action} {rule.text.removeprefix('!')}"
        for rule in config.rules.rules
    ]
    lines.append(f"otherwise    {config.rules.default}")
    lines += [f"warning      {warning}" for warning in config.rules.warnings]
    return "\n".join([*lines, ""])


def _parse_rules(environment: Environment, found: list[Problem]) -> HttpRules | None:
    problems = Problems(variables.HTTP_DESTINATION.name, found)
    before = len(found)
    text = environment.text(variables.HTTP_DESTINATION, variables.HTTP_DESTINATION_FILE, problems)
    if len(found) > before:
        return None
    named = variables.HTTP_DESTINATION
    if environment.is_set(variables.HTTP_DESTINATION_FILE):
        named = variables.HTTP_DESTINATION_FILE
    try:
        return parse_http_rules(text, variable=named.name)
    except ConfigurationError as error:
        found.extend(error.problems)
        return None


def _parse_limits(environment: Environment, found: list[Problem]) -> HttpLimits | None:
    def count(variable: Variable, low: int, high: int) -> int | None:
        problems = Problems(variable.name, found)
        return read_count(environment, variable, problems, low=low, high=high)

    connections = count(variables.HTTP_CONNECTION_LIMIT, 1, 1_000_000)
    head_bytes = count(variables.HTTP_HEAD_LIMIT, 1024, 1 << 20)
    fields = count(variables.HTTP_FIELD_LIMIT, 10, 10_000)
    if head_bytes is None or fields is None:
        return None
    return HttpLimits(connections=connections, head_bytes=head_bytes, fields=fields)


def _parse_times(environment: Environment, found: list[Problem]) -> HttpTimes:
    def seconds(variable: Variable, low: float = 0.1, high: float = DAY_S) -> float:
        problems = Problems(variable.name, found)
        return read_seconds(environment, variable, problems, low=low, high=high)

    return HttpTimes(
        head_s=seconds(variables.HTTP_HEAD_SECONDS),
        keepalive_s=seconds(variables.HTTP_KEEPALIVE_SECONDS),
        answer_s=seconds(variables.HTTP_ANSWER_SECONDS),
        body_s=seconds(variables.HTTP_BODY_SECONDS),
        tunnel_s=seconds(variables.HTTP_TUNNEL_SECONDS, 1),
        dial_s=seconds(variables.HTTP_DIAL_SECONDS),
        drain_s=seconds(variables.DRAIN, 0),
    )
