"""EGRESS_HTTP_PROXY_DESTINATION: text becomes rules.

1. A line is `['!'] DESTINATION` (see http_destination); `!` denies, the first match wins.
2. `*` never takes `!` and stands last. `*:PORT` lines may stand several in a row, as the last ones.
3. A list that ends in a plain `*` allows what no line matched, any other list denies it.
4. A line that repeats an earlier destination can never decide: a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from egress_router.config.http_destination import Destination, Kind, Value, parse_destination
from egress_router.config.text import Line, Problems, quote, split_lines

if TYPE_CHECKING:
    from egress_router.errors import Problem

VARIABLE = "EGRESS_HTTP_PROXY_DESTINATION"

_EXPECTED = "expected an address, a network, a host name, *.DOMAIN or a last *"


class Action(StrEnum):
    """What a line, and in the end the whole list, says about a request."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """One line of the list; `kind`, `value` and `ports` are those of its destination."""

    line: int
    text: str
    action: Action
    kind: Kind
    value: Value
    ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRules:
    """The whole list in order, what holds where no line matches, and what to warn of."""

    rules: tuple[HttpRule, ...]
    default: Action
    warnings: tuple[Problem, ...] = ()


def parse_http_rules(text: str | None, *, variable: str = VARIABLE) -> HttpRules:
    """The rules a list describes, None if it is not set; messages name `variable` (a file's own).

    Raises ConfigurationError with every problem of the list.
    """
    problems, warnings = Problems(variable), Problems(variable)
    lines = split_lines(text or "", problems)
    if not lines and not problems.found:
        problems.add(f"No {VARIABLE} specified: the list has no rule, expected at least one")
    parsed = [_parse_rule(line, problems, warnings) for line in lines]
    _check_wildcards(lines, parsed, problems)
    problems.found.sort(key=_line_of)
    problems.raise_if_any()
    rules = tuple(filter(None, parsed))
    _warn_of_repetition(rules, warnings)
    warnings.found.sort(key=_line_of)
    total = rules[-1].kind is Kind.ANY and rules[-1].ports is None
    return HttpRules(
        rules=rules,
        default=Action.ALLOW if total else Action.DENY,
        warnings=tuple(warnings.found),
    )


def render_http_check(rules: HttpRules) -> dict[str, object]:
    """The object that `check http --json` prints; a domain's value comes without its `*.`."""
    return {
        "rules": [
            {
                "line": rule.line,
                "action": str(rule.action),
                "kind": str(rule.kind),
                "value": str(rule.value),
                "ports": None if rule.ports is None else list(rule.ports),
            }
            for rule in rules.rules
        ],
        "default": str(rules.default),
    }


def _parse_rule(line: Line, problems: Problems, warnings: Problems) -> HttpRule | None:
    denied = line.text.startswith("!")
    body = line.text[1:] if denied else line.text
    try:
        kind, value, ports, remark = _parse_body(line, body, denied=denied)
    except ValueError as fault:
        problems.add(f"Bad destination {quote(body)}: {fault}; {_EXPECTED}", line=line)
        return None
    if remark:
        warnings.add(f"{quote(line.text)} {remark}", line=line)
    action = Action.DENY if denied else Action.ALLOW
    return HttpRule(
        line=line.number, text=line.text, action=action, kind=kind, value=value, ports=ports
    )


def _parse_body(line: Line, body: str, *, denied: bool) -> Destination:
    if len(line.fields) != 1:
        raise ValueError("one destination stands on a line")
    destination = parse_destination(body)
    if denied and destination[0] is Kind.ANY:
        raise ValueError("'*' takes no '!': what no line matches is denied already")
    return destination


def _check_wildcards(
    lines: tuple[Line, ...], parsed: list[HttpRule | None], problems: Problems
) -> None:
    """Reports each `*` with another kind of line behind it, each plain one with `*:PORT` behind."""
    other: Line | None = None
    partial: Line | None = None
    for line, rule in zip(reversed(lines), reversed(parsed), strict=True):
        if rule is None or rule.kind is not Kind.ANY:
            other = line
            continue
        behind = other if rule.ports is not None else other or partial
        if behind is not None:
            problems.add(
                f"Wildcard must be last rule, if present: {quote(line.text)} stands before"
                f" {quote(behind.text)} on line {behind.number}",
                line=line,
            )
        if rule.ports is not None:
            partial = line


def _warn_of_repetition(rules: tuple[HttpRule, ...], warnings: Problems) -> None:
    seen: dict[tuple[Kind, tuple[int, int] | None], dict[Value, int]] = {}
    for rule in rules:
        first = seen.setdefault((rule.kind, rule.ports), {}).setdefault(rule.value, rule.line)
        if first != rule.line:
            warnings.add(
                f"{quote(rule.text)} never decides: line {first} names the same destination",
                line=rule.line,
            )


def _line_of(problem: Problem) -> int:
    return problem.line or 0
