"""The document of /status becomes a table that a person reads at a glance.

Generic: it knows the facts every daemon tells and shows whatever else a mode adds, scalars as
lines, mappings as sections, lists of mappings as tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FIRST = ("source", "gateway", "link")  # what a person looks for, in this order
_HEAD = frozenset({"mode", "version", "ready", "reasons", "for_s", "started"})
_GAP = "  "


def render_status(document: Mapping[str, Any]) -> str:
    """The whole table, newline at its end."""
    facts = [
        ("mode", f"{_cell(document.get('mode'))} (version {_cell(document.get('version'))})"),
        *_readiness(document),
        ("started", _cell(document.get("started"))),
    ]
    rest = {key: value for key, value in document.items() if key not in _HEAD}
    names = sorted(rest, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    facts += [_fact(name, rest[name]) for name in names if not _is_section(rest[name])]
    lines = _pairs(facts)
    for name in names:
        if _is_section(rest[name]):
            lines += ["", f"{_label(name).upper()}", *_section(rest[name])]
    return "\n".join(lines) + "\n"


def render_duration(seconds: float) -> str:
    """Seconds for a person: `7s`, `3m 20s`, `5h 2m`, `12d 4h`."""
    whole = int(seconds)
    for unit, size, smaller, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller_size}{smaller}"
    return f"{whole}s"


def render_bytes(number: float) -> str:
    """Bytes for a person: `512 B`, `1.4 MiB`."""
    if number < 1024:
        return f"{number:g} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"


def _readiness(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    for_how_long = render_duration(float(document.get("for_s") or 0))
    if document.get("ready"):
        return [("ready", f"yes, for {for_how_long}")]
    reasons = [_cell(reason) for reason in document.get("reasons") or ["no reason given"]]
    return [("ready", f"NO, for {for_how_long}"), *(("", reason) for reason in reasons)]


def _section(value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{_GAP}{line}" for line in _pairs([_fact(k, v) for k, v in value.items()])]
    rows = value if isinstance(value, list) else []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = [[_fact(column, 0)[0].upper() for column in columns]]
    table += [[_fact(column, row.get(column))[1] for column in columns] for row in rows]
    return [f"{_GAP}{line}" for line in _columns(table)]


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
