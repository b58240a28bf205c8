"""What is told of a run: the tables of bench/README.md, between markers, and its plots."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.results import Series, Topic

README = Path(__file__).with_name("README.md")
COLUMNS = 3


def render_topic(topic: Topic, machine: dict[str, str], options: dict[str, Any]) -> str:
    """One topic's table, and under which conditions it was taken."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    extra = "".join(f", {name}={value}" for name, value in options["ours"].items())
    conditions = f"Rounds: {topic.rounds}, loads of {options['seconds']:g} s{extra}; {facts}."
    beside = " ".join(filter(None, (topic.render_load(), topic.render_idle())))
    return "\n\n".join(filter(None, (conditions, topic.render(), beside)))


def replace_tables(text: str, tables: dict[str, str]) -> str:
    """The text with each table between its markers; KeyError if one has no place in it."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        if found is None:
            raise KeyError(name)
        text = f"{text[: found.start()]}{begin}\n{table}\n{end}{text[found.end() :]}"
    return text


def plot_curves(topics: list[Topic], path: Path) -> None:
    """Draws every curve, as SVG or PNG by the path's end: medians, with the range as bars."""
    # Of the dependency group `bench`; a run without a plot does without it.
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    curves = [curve for topic in topics for curve in _curves(topic)]
    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(5 * COLUMNS, 3.2 * max(rows, 1)), layout="constrained")
    for number, (topic, points) in enumerate(curves, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        first = points[0]
        for color, side in enumerate(topic.sides):
            seen = [(p.x, p.sides[side]) for p in points if side in p.sides]
            if not seen:
                continue
            middles = [statistics.median(values) for _, values in seen]
            low = [m - min(values) for m, (_, values) in zip(middles, seen, strict=True)]
            high = [max(values) - m for m, (_, values) in zip(middles, seen, strict=True)]
            axes.errorbar(
                [x for x, _ in seen],
                middles,
                yerr=(low, high),
                marker="o",
                capsize=3,
                label=side,
                color=f"C{color}",  # a side without this curve keeps its colour for the others
            )
        axes.set_xscale("log")
        counts = [point.x for point in points if point.x is not None]
        axes.set_xticks(counts, labels=[f"{count:,.0f}" for count in counts])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(f"{topic.name}: {first.measure}", fontsize=9)
        axes.set_xlabel(first.x_name, fontsize=8)
        axes.set_ylabel(first.unit or "a second", fontsize=8)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=7)
    with rc_context({"svg.fonttype": "none"}):  # text as text: a tenth of the size
        figure.savefig(path)


def _curves(topic: Topic) -> list[tuple[Topic, list[Series]]]:
    by_measure: dict[str, list[Series]] = {}
    for series in topic.series:
        if series.x is not None and not series.of_the_machine:
            by_measure.setdefault(series.measure, []).append(series)
    return [
        (topic, sorted(points, key=lambda point: point.x or 0))
        for points in by_measure.values()
        if len(points) > 2  # two points are a row of the table
    ]
