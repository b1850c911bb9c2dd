"""What a shell offers at the Tab key, beside commands and options.

Where a function returns nothing, the shell completes a path by itself. So it does
wherever a directory is to be entered, or a name to be quoted: it knows how.
"""

import os
import shlex
from collections.abc import Iterable

import typer

from tigerflow.errors import TigerflowError
from tigerflow.report import SECTIONS, read_report
from tigerflow.tasks.registry import registered_names

_PIPELINE_SUFFIXES = (".yaml", ".yml")


def complete_pipeline(incomplete: str) -> list[str]:
    """Return YAML files, and directories that may have some."""
    where = incomplete[: incomplete.rfind("/") + 1]
    try:
        with os.scandir(where or ".") as entries:
            names = [
                where + entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(".")
                == incomplete[len(where) :].startswith(".")
            ]
    except OSError:
        return []
    fitting = (*_PIPELINE_SUFFIXES, "/")
    found = _starting(incomplete, [name for name in names if name.endswith(fitting)])
    only_a_directory = len(found) == 1 and found[0].endswith("/")
    has_to_be_quoted = any(shlex.quote(name) != name for name in found)
    return [] if only_a_directory or has_to_be_quoted else found


def complete_task(incomplete: str) -> list[str]:
    """Return the names of built-in and installed tasks."""
    return _starting(incomplete, registered_names())


def complete_sections(incomplete: str) -> list[str]:
    """Return the sections that may come after the last comma."""
    before = incomplete[: incomplete.rfind(",") + 1]
    taken = before.split(",")
    return _starting(
        incomplete, [before + name for name in SECTIONS if name not in taken]
    )


def complete_failed(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the input files that failed in the output directory that stands before."""
    output_dir = ctx.params.get("output_dir")
    if output_dir is None:
        return []
    try:
        tasks = read_report(output_dir).tasks
    except (TigerflowError, OSError):
        return []
    names = {failure.origin for task in tasks for failure in task.failures}
    return _starting(incomplete, [name for name in names if shlex.quote(name) == name])


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(incomplete))
