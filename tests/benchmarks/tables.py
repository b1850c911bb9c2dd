"""What benchmarks print: a Markdown table, and the machine that it was measured on."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version


def machine() -> str:
    """Return what of the machine and its state the figures depend on."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, load average {load}, "
        f"Python {platform.python_version()}, Snakemake {version('snakemake')}, "
        f"Linux {platform.release()}"
    )


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below a head, as Markdown."""
    print(_line(head))
    print(_line(["---"] * len(head)))
    for row in rows:
        print(_line(row), flush=True)


def holds(condition: bool) -> str:  # noqa: FBT001 -- it is what is shown
    """Return whether a goal is met."""
    return "yes" if condition else "**no**"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
