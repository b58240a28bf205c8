"""One run: its options, what they select, and how a module of the suite is run alone."""

from __future__ import annotations

import argparse
import compileall
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import egress_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`only`: words, one of which a measure's name must hold; all measures if there is none.

    `ours`: variables that every program of the router gets beside those of its scene.
    `load_processes`: how many make the load; None: as many as bring most out of a side.
    """

    rounds: int
    seconds: float
    only: tuple[str, ...]
    ours: dict[str, str]
    load_processes: int | None = None

    def wants(self, measure: str) -> bool:
        """Whether a measure is selected."""
        return not self.only or any(word in measure for word in self.only)


Measure = Callable[[Options], "Topic"]
T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that the suite and each of its modules have."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument(
        "--load-processes", type=int, metavar="N", help="instead of what brings most out of a side"
    )
    parser.add_argument("--only", action="append", default=[], help="measures that hold this word")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="for ours alone"
    )


def read_options(found: argparse.Namespace) -> Options:
    """The options of a run.

    Compiles the package on the way, as images have it: daemons run as a user that could not.
    """
    compileall.compile_dir(str(Path(egress_router.__file__).parent), quiet=2)
    # As shipped: the lab by itself gives a daemon one process, for the sake of tests.
    ours = {"EGRESS_WORKERS": "auto", **dict(pair.partition("=")[::2] for pair in found.set)}
    return Options(
        rounds=found.rounds,
        seconds=found.seconds,
        only=tuple(found.only),
        ours=ours,
        load_processes=found.load_processes,
    )


def run_alone(measure: Measure, description: str | None) -> int:
    """Runs one module of the suite and prints its table."""
    parser = argparse.ArgumentParser(description=description)
    add_options(parser)
    topic = measure(read_options(parser.parse_args()))
    print(f"{topic.title}\n\n{topic.render()}")
    return 0


def in_turn(sides: Sequence[T], turn: int) -> tuple[T, ...]:
    """The sides in the order of a round: each is the first once, and none always the last.

    What a side leaves behind, such as ports and warm caches, is then not always the same one's.
    """
    first = turn % len(sides)
    return (*sides[first:], *sides[:first])


def require(tools: Sequence[str]) -> None:
    """Ends the program if one of these is not installed."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        sys.exit(f"not found on this machine: {', '.join(missing)} (`make bench` installs them)")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that peers which give up root may use; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)
