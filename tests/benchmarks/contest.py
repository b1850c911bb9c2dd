"""What measures contenders in turn, and the rows of its table."""

import argparse
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from contenders import Contender, install_peer

HEAD = ("what", "TigerFlow", "compared with", "ratio", "goal", "holds")


class Row(NamedTuple):
    """A line of the table."""

    what: str
    measured: str
    others: str = ""
    ratio: str = ""
    goal: str = ""
    holds: str = ""


class Contest:
    """Measurements; each method that ends in `_rows` makes rows of a table."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._repeats: int = options.repeats
        self._peer_dir: Path = options.peer
        self._random = random.Random(options.seed)
        self._directory = directory
        self._trials = 0

    @cached_property
    def _peers(self) -> tuple[Contender, Contender]:
        return install_peer(self._peer_dir)

    def _next_directory(self) -> Path:
        """Return the path for the files of another trial."""
        self._trials += 1
        return self._directory / str(self._trials)

    def _in_turn(
        self, measures: Mapping[str, Callable[[], list[float]]]
    ) -> dict[str, list[list[float]]]:
        """Call all, as often as is asked for; return what each has measured."""
        found: dict[str, list[list[float]]] = {name: [] for name in measures}
        for number in range(self._repeats):
            for name, measure in measures.items():
                found[name].append(measure())
                shown = ", ".join(f"{value:.3f}" for value in found[name][-1][:4])
                print(f"{number + 1}. {name}: {shown}", file=sys.stderr)
        return found


def median(runs: Sequence[Sequence[float]], position: int) -> float:
    """Return the median of what is at this position of each run."""
    return statistics.median(run[position] for run in runs)


def options_parser(
    description: str | None, names: Iterable[str], repeats: int
) -> argparse.ArgumentParser:
    """Return a parser of the options that all contests have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = list(names)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--peer",
        type=Path,
        default=Path.home() / ".cache" / "tigerflow-benchmarks" / "tigerflow-0.3.1",
        metavar="DIR",
        help="its virtual environment; made when it is not there (%(default)s)",
    )
    parser.add_argument(
        "--directory", type=Path, help="where files are made; default: as tempfile's"
    )
    return parser


def print_load() -> None:
    """Print what the machine had to do at the end."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"\nload average at the end: {load}")
