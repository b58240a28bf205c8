"""The tables of README.md and images/*.md, made from the tables in the code.

`python tests/readme.py` rewrites them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from egress_router.config.variables import VARIABLES
from egress_router.service.events import EVENTS
from egress_router.service.metrics import METRICS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def tables() -> dict[str, str]:
    """Every generated table by the name of its marker."""
    image_tables = {
        f"variables of {program}": table(
            ("variable", "default", "meaning"),
            [
                (f"`{v.name}`", default_of(v.default, v.unit), v.meaning)
                for v in VARIABLES
                if program in v.programs
            ],
        )
        for program in ("init", "redirect", "http", "dns")
    }
    return image_tables | {
        "variables": table(
            ("variable", "read by", "default", "meaning"),
            [
                (f"`{v.name}`", ", ".join(v.programs), default_of(v.default, v.unit), v.meaning)
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


def default_of(default: str | None, unit: str | None) -> str:
    """A variable's default and its unit, as a cell."""
    return f"`{default}`{' ' + unit if unit else ''}" if default else ""


PAGES = {
    README: ("variables", "metrics", "events"),
    **{
        ROOT / f"images/{program}.md": (f"variables of {program}",)
        for program in ("init", "redirect", "http", "dns")
    },
}


def render(text: str, page: Path = README) -> str:
    """A page's text with every generated table as the code has it."""
    content = tables()
    for name in PAGES[page]:
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, c=content[name]: f"{m[1]}{c}\n{m[2]}", text)
        if count != 1:
            sys.exit(f"{page.name} has {count} places for the table '{name}', expected one")
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text(encoding="utf-8"), page), encoding="utf-8")
