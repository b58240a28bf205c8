"""The document of /status becomes a table that a person reads at a glance.

1. It knows the facts every daemon tells and shows whatever else a mode adds, scalars as lines,
   mappings as sections, lists of mappings as tables.
2. What is wrong stands above all else; conditions that hold are not worth a line.
3. A long table shows its first rows, those in trouble and then the busiest, and counts the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress_router.service.units import render_bytes, render_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS = 20  # of one table; more does not fit a terminal beside the rest
_FIRST = ("source", "gateway", "link", "reload")  # what a person looks for, in this order
_LAST = ("nat", "process")
_HEAD = frozenset(
    {
        "mode",
        "version",
        "ready",
        "reasons",
        "for_s",
        "started",
        "warnings",
        "conditions",
        "gateways",
    }
)
_GAP = "  "
# States in which a destination, a name or a nameserver needs no attention.
_CALM = frozenset({"open", "fresh", "answers", "not asked yet", "ok", "reachable"})
_WORDS = ("state", "reason")  # columns of free text, which would push others off the screen
_TRAFFIC = ("active", "connections", "forwarded", "packets", "allowed", "refused", "failed")
_STATE_WORDS = {"unknown": "not asked yet", "incomplete": "NO ANSWER", "failed": "NO ANSWER"}


def render_status(document: Mapping[str, Any], *, rows: int | None = ROWS) -> str:
    """The whole text, newline at its end; `rows`: of each table at most, None for all."""
    facts = [
        ("mode", f"{_cell(document.get('mode'))} (version {_cell(document.get('version'))})"),
        *_readiness(document),
        *_warnings(document),
        ("started", _cell(document.get("started"))),
    ]
    rest = {k: value for k, value in document.items() if k not in _HEAD and value != {}}
    if document.get("gateways"):
        rest["gateway"] = ", ".join(map(_gateway, document["gateways"]))
    if "reload" in rest:
        rest["reload"] = _reload(rest["reload"])
    names = sorted(rest, key=_place)
    facts += [_fact(name, rest[name]) for name in names if not _is_section(rest[name])]
    lines = _pairs(facts)
    for name in names:
        if _is_section(rest[name]):
            lines += ["", _label(name).upper(), *_section(rest[name], rows)]
    return "\n".join(lines) + "\n"


def order_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows in trouble first, then the busiest; those alike stay in their order."""
    return sorted(rows, key=_urgency)


def _urgency(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    state = str(row.get("state", "open"))
    counts = {key: value for key, value in row.items() if isinstance(value, (int, float))}
    moved = sum(value for key, value in counts.items() if key.endswith("bytes"))
    used = sum(counts.get(name, 0) for name in _TRAFFIC)
    return state in _CALM, -moved, -used


def _place(name: str) -> int:
    if name in _FIRST:
        return _FIRST.index(name)
    return len(_FIRST) + (1 + _LAST.index(name) if name in _LAST else 0)


def _readiness(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    for_how_long = render_duration(float(document.get("for_s") or 0))
    if document.get("ready"):
        return [("ready", f"yes, for {for_how_long}")]
    reasons = [_cell(reason) for reason in document.get("reasons") or ["no reason given"]]
    return [("ready", f"NO, for {for_how_long}"), *(("", reason) for reason in reasons)]


def _warnings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    warnings = [_cell(warning) for warning in document.get("warnings") or ()]
    return [("warning" if not number else "", text) for number, text in enumerate(warnings)]


def _gateway(gateway: Mapping[str, Any]) -> str:
    state = _cell(gateway.get("state"))
    known = [_cell(gateway["mac"])] if gateway.get("mac") else []
    told = ", ".join([*known, _STATE_WORDS.get(state, state)])
    return f"{_cell(gateway.get('address'))} ({told})"


def _reload(reload: Mapping[str, Any]) -> object:
    """One line where all is well, a section where a reload came to nothing."""
    result = reload.get("result")
    if result == "none":
        return "none since the start"
    told = f"{_cell(result)} at {_cell(reload.get('at'))}, generation {reload.get('generation')}"
    told += f", from {_cell(reload['source'])}" if reload.get("source") else ""
    parts = {key: reload[key] for key in ("problems", "changes") if reload.get(key)}
    if not parts:
        return told
    words = [{"": _cell(part)} for key in parts for part in parts[key]]
    return [{"": told}, *words]


def _section(value: object, limit: int | None) -> list[str]:
    if isinstance(value, dict):
        return [f"{_GAP}{line}" for line in _pairs([_fact(k, v) for k, v in value.items()])]
    rows = value if isinstance(value, list) else []
    shown = rows if limit is None or len(rows) <= limit else order_rows(rows)[:limit]
    columns = sorted(dict.fromkeys(key for row in shown for key in row), key=_WORDS.__contains__)
    heads = [_fact(column, 0)[0].upper() for column in columns]
    table = [heads] if any(heads) else []
    table += [[_fact(column, row.get(column))[1] for column in columns] for row in shown]
    left = len(rows) - len(shown)
    more = [f"… and {left} more; --all shows them"] if left else []
    return [f"{_GAP}{line}" for line in (*_columns(table), *more)]


def _pairs(facts: Sequence[tuple[str, str]]) -> list[str]:
    return _columns([[name, value] for name, value in facts])


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _is_section(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _cell(value: object) -> str:
    match value:
        case None | [] | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_cell, value))
        case dict():
            return ", ".join(f"{_label(key)} {_cell(part)}" for key, part in value.items())
        case _:
            return "".join(c if c.isprintable() else "?" for c in str(value))


def _fact(name: str, value: object) -> tuple[str, str]:
    """Label and text; the unit that a name ends in moves to the number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name.endswith("bytes"):
            return _label(name.removesuffix("_bytes")), render_bytes(value)
        if name.endswith("_s"):
            return _label(name.removesuffix("_s")), f"{value:g} s"
    return _label(name), _cell(value)


def _label(name: object) -> str:
    return _cell(str(name)).replace("_", " ")
