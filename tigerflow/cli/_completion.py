"""Completions for a shell's Tab key, beyond commands and options.

If a function returns nothing, the shell completes a path itself. This is used for
directories, and for paths that need quotes, since the shell knows how to quote.
"""

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import typer

from tigerflow.errors import TigerflowError
from tigerflow.report.as_json import SECTIONS
from tigerflow.report.reading import read_report
from tigerflow.report.run_report import TaskReport
from tigerflow.tasks.registry import registered_names

# Characters that a shell would interpret.
_UNSAFE = re.compile(r"[^\w@%+=:,./-]")

# Characters that cannot follow an open quote without an escape.
_IMPOSSIBLE = {"'": "'", '"': '"$`\\!'}

# Characters that Typer does not pass to other shells unchanged.
_LOST = "'\"\\"

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
    """Return the sections that can follow the last comma."""
    before = incomplete[: incomplete.rfind(",") + 1]
    taken = before.split(",")
    return _starting(
        incomplete, [before + name for name in SECTIONS if name not in taken]
    )


def complete_failed(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return files that failed, from the output directory earlier on the command line.

    They are quoted for the shell. Typer leaves out those that do not start with the
    typed text; so nothing is offered if that has a quoted character itself.
    """
    names = {failure.origin for task in _tasks_of_run(ctx) for failure in task.failures}
    typed = [_as_typed(name) for name in _starting(incomplete, names)]
    return [name for name in typed if name is not None]


def complete_task_of_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tasks of a run, from the output directory on the command line."""
    return _starting(incomplete, [task.name for task in _tasks_of_run(ctx)])


def _tasks_of_run(ctx: typer.Context) -> tuple[TaskReport, ...]:
    # After an option that has no value yet, arguments are not parsed.
    directories = [ctx.params.get("output_dir"), *ctx.args]
    output_dir = next((each for each in directories if each is not None), None)
    if output_dir is None:
        return ()
    try:
        return read_report(Path(output_dir)).tasks
    except (TigerflowError, OSError):
        return ()


def _as_typed(name: str) -> str | None:
    """Return a name in the form that the shell needs; None if there is no such form.

    Bash inserts it as it is, even after an open quote; other shells quote it.
    """
    words = os.environ.get("COMP_WORDS", "").split("\n")
    is_bash = os.environ.get("_TIGERFLOW_COMPLETE") == "complete_bash"
    impossible = _IMPOSSIBLE.get(words[-1][:1], "") if is_bash else _LOST
    if not name.isprintable() or not set(name).isdisjoint(impossible):
        return None
    is_bare = is_bash and not impossible
    return _UNSAFE.sub(r"\\\g<0>", name) if is_bare else name


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(incomplete))
