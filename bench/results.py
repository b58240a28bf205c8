"""What was measured: values by measure, point of a curve, and side; as Markdown and as JSON.

1. Sides of one measure take turns within a round; a ratio is taken between neighbours of a round
   and then the median of these, because the machine's own speed moves more than the sides differ.
2. Every figure keeps all of its values, so that a table can be made anew from the JSON.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

At = tuple[float, str]  # a point of a curve, and what is counted there: (1000, "ports")
MORE, LESS = "more", "less"
OF_THE_LOAD = ": the load itself"  # ends the name of what is no figure of any side


@dataclass(slots=True, kw_only=True)
class Series:
    """The values of one measure, at one point of its curve (`x`, None if it has none)."""

    measure: str
    unit: str
    better: str
    x: float | None = None
    x_name: str = ""
    sides: dict[str, list[float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The first cell of its row."""
        at = "" if self.x is None else f", {self.x:,.0f} {self.x_name}"
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.measure}{at}{unit}"

    @property
    def of_the_load(self) -> bool:
        """Whether it tells of the load and its server: how many processors they took."""
        return self.measure.endswith(OF_THE_LOAD)

    def ratios(self, side: str, baseline: str) -> list[float]:
        """A side's values by those of another one, round by round."""
        pairs = zip(self.sides.get(side, ()), self.sides.get(baseline, ()), strict=False)
        return [one / other for one, other in pairs if other]


@dataclass(slots=True, kw_only=True)
class Topic:
    """One table. `sides` orders its columns; the first is what the others are divided by."""

    name: str
    title: str
    sides: tuple[str, ...]
    series: list[Series] = field(default_factory=list)

    def note(  # noqa: PLR0913 - a figure has these sides
        self,
        measure: str,
        side: str,
        value: float,
        *,
        unit: str = "",
        better: str = MORE,
        at: At | None = None,
    ) -> None:
        """Adds one value, that of the round which comes next for this side."""
        x, x_name = at or (None, "")
        for series in self.series:
            if (series.measure, series.x) == (measure, x):
                break
        else:
            series = Series(measure=measure, unit=unit, better=better, x=x, x_name=x_name)
            self.series.append(series)
        series.sides.setdefault(side, []).append(value)

    def render(self) -> str:
        """Markdown: for each side its ratio to the first, with its range, then its own median."""
        order = list(dict.fromkeys(one.measure for one in self.series if not one.of_the_load))
        rows = [one for one in self.series if not one.of_the_load]
        rows.sort(key=lambda one: (order.index(one.measure), one.x or 0))
        known = [side for side in self.sides if any(side in one.sides for one in rows)]
        lines = [
            f"| measure | better | {' | '.join(known)} |",
            "| --- | --- |" + " --- |" * len(known),
        ]
        for series in rows:
            cells = [_cell(series, side, self.sides[0]) for side in known]
            lines.append(f"| {series.title} | {series.better} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def render_load(self) -> str:
        """What the load took itself, in one sentence; empty if there was none."""
        found = [one for one in self.series if one.of_the_load]
        took = [value for one in found for values in one.sides.values() for value in values]
        if not took:
            return ""
        middle = statistics.median(took)
        return (
            f"The load and the server behind took {middle:.2f} processors while they ran "
            f"({min(took):.2f} to {max(took):.2f})."
        )


def _cell(series: Series, side: str, baseline: str) -> str:
    values = series.sides.get(side)
    if not values:
        return ""
    middle = _shown(statistics.median(values))
    ratios = [] if side == baseline else series.ratios(side, baseline)
    if not ratios:
        return middle
    ratio = f"**{statistics.median(ratios):.2f}**"
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{ratio}{spread}; {middle}"


def _shown(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def to_json(
    machine: dict[str, str], options: dict[str, Any], topics: list[Topic]
) -> dict[str, Any]:
    """One document of a whole run."""
    return {"machine": machine, "options": options, "topics": [asdict(topic) for topic in topics]}


def from_json(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any], list[Topic]]:
    """Machine, options and topics of a document that `to_json` made."""
    topics = [
        Topic(
            name=found["name"],
            title=found["title"],
            sides=tuple(found["sides"]),
            series=[Series(**series) for series in found["series"]],
        )
        for found in document["topics"]
    ]
    return document["machine"], document["options"], topics
