"""The benchmark suite: every topic in its turn, one set of tables (root).

`python -m bench [TOPIC]... --json FILE --plot FILE --readme`; `--from FILE` makes tables and plots
anew from the JSON of an earlier run and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import dns, http, redirect, report, rules, start
from bench.machine import observe_machine
from bench.results import from_json, to_json
from bench.run import add_options, read_options, say

if TYPE_CHECKING:
    from bench.results import Topic
    from bench.run import Measure

TOPICS: dict[str, Measure] = {
    "start": start.measure,
    "redirect": redirect.measure,
    "http": http.measure,
    "rules": rules.measure,
    "dns": dns.measure,
}


def main() -> int:
    """Measures, or reads what was measured; prints it, and writes what is asked for."""
    found = _parser().parse_args()
    if found.source:
        document = json.loads(found.source.read_text(encoding="utf-8"))
        machine, options, topics = from_json(document)
    else:
        machine, options, topics = _measure(found)
    if found.json:
        text = json.dumps(to_json(machine, options, topics), indent=1)
        found.json.write_text(f"{text}\n", encoding="utf-8")
    tables = {topic.name: report.render_topic(topic, machine, options) for topic in topics}
    for topic in topics:
        print(f"## {topic.title}\n\n{tables[topic.name]}\n")
    if found.readme:
        text = report.README.read_text(encoding="utf-8")
        report.README.write_text(report.replace_tables(text, tables), encoding="utf-8")
    if found.plot:
        report.plot_curves(topics, found.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("topic", nargs="*", help=f"of {', '.join(TOPICS)}; all if none is named")
    add_options(parser)
    parser.add_argument("--json", type=Path, help="writes every value there")
    parser.add_argument("--plot", type=Path, help="draws the curves there (SVG)")
    parser.add_argument("--readme", action="store_true", help="replaces the tables of the README")
    parser.add_argument("--from", dest="source", type=Path, help="an earlier run's JSON")
    return parser


def _measure(found: argparse.Namespace) -> tuple[dict[str, str], dict[str, Any], list[Topic]]:
    if unknown := set(found.topic) - set(TOPICS):
        sys.exit(f"no such topic: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    options = read_options(found)
    machine = observe_machine()
    topics = []
    for name, measure in TOPICS.items():
        if found.topic and name not in found.topic:
            continue
        began = time.monotonic()
        topics.append(measure(options))
        say(f"{name}: {time.monotonic() - began:.0f} s")
    told = {"rounds": options.rounds, "seconds": options.seconds, "ours": options.ours}
    return machine, told, topics


if __name__ == "__main__":
    sys.exit(main())
