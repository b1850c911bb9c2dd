"""The software of a task: `conda`, `container` and `envmodules` of a pipeline file."""

import os
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from tigerflow.pipeline.mistakes import Mistakes
from tigerflow.pipeline.reading import ReadTask
from tigerflow.pipeline.schema import TaskDraft, TaskSpec
from tigerflow.tasks.places import Places

_Task = TypeVar("_Task", TaskSpec, TaskDraft)

_ENVIRONMENT_FILES = (".yaml", ".yml")


def is_environment_file(conda: str | None) -> TypeGuard[str]:
    """Tell whether `conda` names a file, by the same rule as Snakemake."""
    return conda is not None and conda.endswith(_ENVIRONMENT_FILES)


def check_software(mistakes: Mistakes, task: ReadTask, directory: Path) -> None:
    """Note missing files, and software that cannot be combined.

    Relative paths start in `directory`, that of the pipeline file.
    """
    draft, places = task.draft, Places(directory)
    if draft.conda is not None and draft.container is not None:
        sentence = "cannot be combined with conda; put the environment into the image"
        mistakes.add((*task.place, "container"), sentence)
    # The methods of Path would raise for a name that is too long.
    is_file, is_dir, exists = os.path.isfile, os.path.isdir, os.path.exists
    if is_environment_file(draft.conda) and not is_file(
        places.locate_text(draft.conda)
    ):
        mistakes.add((*task.place, "conda"), f"{draft.conda!r} is not a file")
    elif _is_directory(draft.conda) and not is_dir(places.locate_text(draft.conda)):
        mistakes.add((*task.place, "conda"), f"{draft.conda!r} is not a directory")
    if _is_path(draft.container) and not exists(places.locate_text(draft.container)):
        mistakes.add((*task.place, "container"), f"{draft.container!r} does not exist")


def located(spec: _Task, directory: Path) -> _Task:
    """Return the task with the paths of its software made absolute."""
    places = Places(directory)
    paths: dict[str, Any] = {}
    if is_environment_file(spec.conda) or _is_directory(spec.conda):
        paths["conda"] = str(places.locate(Path(spec.conda)))
    if _is_path(spec.container):
        paths["container"] = str(places.locate(Path(spec.container)))
    return spec.model_copy(update=paths) if paths else spec


def _is_directory(conda: str | None) -> TypeGuard[str]:
    # A name has no slash in it.
    return conda is not None and not is_environment_file(conda) and "/" in conda


def _is_path(container: str | None) -> TypeGuard[str]:
    return container is not None and "://" not in container
