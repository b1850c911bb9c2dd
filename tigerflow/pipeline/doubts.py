"""What may keep a task's workers from starting, as far as this machine can tell."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from tigerflow.pipeline.amounts import parse_time_minutes
from tigerflow.pipeline.document import Place
from tigerflow.pipeline.schema import SlurmTaskSpec, TaskSpec
from tigerflow.pipeline.software import is_environment_file
from tigerflow.pipeline.spec import PipelineTask
from tigerflow.settings import Settings
from tigerflow.tasks.shell.commands import Look, find_doubts, look_at
from tigerflow.tasks.shell.environment import (
    look_at_conda,
    look_at_container,
    look_at_modules,
)

_ELSEWHERE = " (on this host; its workers run on others)"

# `check` gets no output directory.
_MADE_LATER = (
    "its environment is created once per output directory, before the first run: "
    "tigerflow compile {pipeline} INPUT_DIR OUTPUT_DIR, then snakemake "
    "-s OUTPUT_DIR/.tigerflow/workflow/Snakefile --sdm conda --conda-create-envs-only"
)


def task_doubts(spec: TaskSpec, pipeline: Path) -> Iterator[tuple[Place, str, bool]]:
    """Yield what would keep a task's workers from starting on this machine.

    Each doubt is a place in the task, a sentence, and whether it is certain. Software
    and setup commands are looked up in one shell, in a worker's order.

    Args:
        spec: the task.
        pipeline: path of its pipeline file.
    """
    if isinstance(spec, SlurmTaskSpec):
        time_s = 60 * parse_time_minutes(spec.worker_resources.time)
        problem = Settings.from_environment().no_time_problem(time_s)
        if problem is not None:
            yield ("worker_resources", "time"), problem, True
    if is_environment_file(spec.conda):
        yield ("conda",), _MADE_LATER.format(pipeline=quote(str(pipeline))), False
    where = _ELSEWHERE if isinstance(spec, SlurmTaskSpec) else ""
    looks = list(_looks(spec))
    for doubt in find_doubts([look for _, look in looks], pipeline.resolve().parent):
        place, _ = looks[doubt.index]
        yield place, f"{doubt.sentence}{where}", doubt.is_certain and not where


def path_doubts(
    task: PipelineTask, pipeline: Path
) -> Iterator[tuple[Place, str, bool]]:
    """Yield relative paths of a task that the user may expect to start elsewhere.

    They have the form of those from `task_doubts`, and are never certain.
    """
    directory = pipeline.resolve().parent
    # A setup command may change the directory before the task starts.
    for sentence in () if task.spec.setup_commands else task.openings:
        yield ("module",), sentence, False
    for key, value in task.spec.params.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and _is_only_here(text, directory):
                sentence = (
                    f"{text!r} exists in the current directory, but not in "
                    f"{str(directory)!r}; relative paths start in the pipeline file's "
                    "directory"
                )
                yield ("params", key), sentence, False


def _is_only_here(text: str, directory: Path) -> bool:
    is_path = "/" in text or Path(text).suffix
    if not is_path or Path(text).is_absolute():
        return False
    # Not every text can be a file name: it may be too long, or have null characters.
    with contextlib.suppress(OSError, ValueError):
        return Path(text).exists() and not (directory / text).exists()
    return False


def _looks(spec: TaskSpec) -> Iterator[tuple[Place, Look]]:
    if spec.envmodules:
        yield ("envmodules",), look_at_modules(spec.envmodules)
    if spec.conda is not None:
        is_made = not is_environment_file(spec.conda)
        yield ("conda",), look_at_conda(spec.conda, is_made=is_made)
    for index, command in enumerate(spec.setup_commands):
        yield ("setup_commands", index), look_at(command)
    if spec.container is not None:
        yield ("container",), look_at_container()
