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
# These end the names of what is no row: processors that the load took, or that nobody did.
OF_THE_LOAD, IDLE = ": the load itself", ": processors idle"
MUCH_IDLE = 0.5  # of one processor: with so much left, the machine was not what held a side back


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
    def of_the_machine(self) -> bool:
        """Whether it tells where the processors were while another measure was taken."""
        return self.measure.endswith((OF_THE_LOAD, IDLE))

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

    @property
    def rounds(self) -> int:
        """How many there were; topics measured at different times may have different ones."""
        return max((len(values) for one in self.series for values in one.sides.values()), default=0)

    def render(self) -> str:
        """Markdown: for each side its ratio to the first, with its range, then its own median."""
        rows = [one for one in self.series if not one.of_the_machine]
        order = list(dict.fromkeys(one.measure for one in rows))
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
        took = self._values(OF_THE_LOAD)
        if not took:
            return ""
        middle = f"{statistics.median(took):.2f} processors while they ran"
        return f"The load and the server behind took {middle} ({min(took):.2f} to {max(took):.2f})."

    def render_idle(self) -> str:
        """How many processors nobody took, in one sentence; empty if that was not noted.

        It names the cells where one process of a side was at its end, and the machine was not.
        """
        idle = self._values(IDLE)
        if not idle:
            return ""
        left = [
            f"{side} in {series.title.replace(IDLE, '')} ({middle:.2f})"
            for series in self.series
            if series.measure.endswith(IDLE)
            for side, values in series.sides.items()
            if (middle := statistics.median(values)) >= MUCH_IDLE
        ]
        told = f"; {MUCH_IDLE} and more: {', '.join(left)}" if left else ""
        spread = f"{min(idle):.2f} to {max(idle):.2f}"
        return f"Processors idle meanwhile: {statistics.median(idle):.2f} ({spread}){told}."

    def _values(self, ending: str) -> list[float]:
        found = [one for one in self.series if one.measure.endswith(ending)]
        return [value for one in found for values in one.sides.values() for value in values]


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
