"""The README's tables, made from the tables in the code: `python tests/readme.py` rewrites them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from egress_router.config.variables import VARIABLES
from egress_router.service.events import EVENTS
from egress_router.service.metrics import METRICS

README = Path(__file__).parent.parent / "README.md"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def tables() -> dict[str, str]:
    """Every generated table by the name of its marker."""
    return {
        "variables": table(
            ("variable", "read by", "default", "meaning"),
            [
                (
                    f"`{v.name}`",
                    ", ".join(v.programs),
                    f"`{v.default}`{' ' + v.unit if v.unit else ''}" if v.default else "",
                    v.meaning,
                )
                for v in VARIABLES
            ],
        ),
        "metrics": table(
            ("metric", "kind", "labels", "meaning"),
            [(f"`{m.name}`", m.kind, ", ".join(m.labels), m.help) for m in METRICS],
        ),
        "events": table(
            ("event", "level", "fields", "meaning"),
            [(f"`{e.name}`", e.level, ", ".join(e.fields), e.meaning) for e in EVENTS],
        ),
    }


def render(text: str) -> str:
    """The README's text with every generated table as the code has it."""
    for name, content in tables().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
        if count != 1:
            sys.exit(f"README.md has {count} places for the table '{name}', expected one")
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
