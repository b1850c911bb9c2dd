"""Each task of a pipeline file, as far as it can be read.

One mistake must not hide others: a task with a mistake is still checked for more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tigerflow.errors import did_you_mean
from tigerflow.pipeline.document import Place
from tigerflow.pipeline.mistakes import Mistakes, add_found, not_a_key, shown
from tigerflow.pipeline.schema import (
    TASK_MODELS,
    SlurmTaskSpec,
    TaskDraft,
    TaskSpec,
    WorkerResources,
    unknown_key,
)
from tigerflow.pipeline.staging import STEPS, Staging
from tigerflow.tasks.base import TaskKind

_KINDS = tuple(kind.value for kind in TaskKind)


@dataclass(frozen=True)
class ReadTask:
    """A task of the file, as far as it could be read."""

    place: Place
    draft: TaskDraft
    #: Keys with mistakes.
    wrong: frozenset[str]
    #: The whole task; None if it has mistakes.
    spec: TaskSpec | None

    @property
    def is_root(self) -> bool:
        """Whether it reads the pipeline's input files."""
        return self.draft.depends_on is None and "depends_on" not in self.wrong


def read_tasks(mistakes: Mistakes, data: object) -> Iterator[ReadTask]:
    """Yield each task of the list under `tasks`, and note its mistakes."""
    if not isinstance(data, list) or not data:
        mistakes.add(("tasks",), "expected a list with at least one task")
        return
    for index, item in enumerate(data):
        place: Place = ("tasks", index)
        if isinstance(item, dict):
            yield _read_task(mistakes, place, item)
        else:
            mistakes.add(place, f"expected a mapping, found {shown(item)}")


def _read_task(mistakes: Mistakes, place: Place, given: dict[str, Any]) -> ReadTask:
    kind = given.get("kind")
    wrong = set()
    if kind in _KINDS:
        model = TASK_MODELS[kind]
        item = given
    else:
        mistakes.add((*place, "kind"), _kind_mistake(kind))
        wrong = {"kind"}
        # The keys that all kinds share can still be checked.
        model = TaskSpec
        special = {key for each in TASK_MODELS.values() for key in each.model_fields}
        special -= TaskSpec.model_fields.keys()
        item = {key: value for key, value in given.items() if key not in special}
        item["kind"] = TaskKind.LOCAL
    item, moved = _from_older_form(mistakes, place, item)
    spec = None
    try:
        spec = model.model_validate(item)
    except ValidationError as error:
        add_found(
            mistakes,
            error,
            lambda location: (*place, *_as_written(location, moved)),
            lambda location: _unknown_in_task(location, model),
        )
        wrong |= {str(found["loc"][0]) for found in error.errors() if found["loc"]}
    if isinstance(spec, SlurmTaskSpec) and spec.workers_per_job > spec.max_workers:
        sentence = f"a job has only {spec.max_workers} workers, the task's max_workers"
        mistakes.warn((*place, "workers_per_job"), sentence)
    draft = _draft(item, wrong)
    return ReadTask(place, draft, frozenset(wrong), None if wrong else spec)


def _draft(item: Mapping[str, Any], wrong: set[str]) -> TaskDraft:
    readable = {key: None if key in wrong else value for key, value in item.items()}
    if isinstance(item.get("name"), str):
        # Other tasks may depend on it, even if it breaks the rules for names.
        readable["name"] = item["name"]
    return TaskDraft.model_validate(readable)


def _kind_mistake(kind: object) -> str:
    if kind is None:
        return f"is required; one of {', '.join(_KINDS)}"
    hint = did_you_mean(kind, _KINDS) if isinstance(kind, str) else ""
    return f"{shown(kind)} is not a kind (kinds: {', '.join(_KINDS)}){hint}"


def _from_older_form(
    mistakes: Mistakes,
    place: Place,
    item: dict[str, Any],
) -> tuple[dict[str, Any], Mapping[Place, Place]]:
    """Convert `resources:` with `max_workers` in it, the form of older files.

    Returns the task in today's form, and the places of moved keys in the file.
    """
    old = item.get("resources")
    if "worker_resources" in item or not isinstance(old, dict):
        return item, {}
    new = {key: value for key, value in item.items() if key != "resources"}
    new["worker_resources"] = {k: v for k, v in old.items() if k != "max_workers"}
    moved: dict[Place, Place] = {("worker_resources",): ("resources",)}
    if "max_workers" in old and "max_workers" not in item:
        new["max_workers"] = old["max_workers"]
        moved[("max_workers",)] = ("resources", "max_workers")
    sentence = "is the old form; write worker_resources, with max_workers beside it"
    mistakes.warn((*place, "resources"), sentence)
    return new, moved


def _as_written(location: Place, moved: Mapping[Place, Place]) -> Place:
    return (*moved.get(location[:1], location[:1]), *location[1:])


def _unknown_in_task(location: Place, model: type[TaskSpec]) -> str:
    nested = WorkerResources if len(location) > 1 else model
    return unknown_key(location, model) or not_a_key(location[-1], nested)


def read_staging(mistakes: Mistakes, data: object) -> Staging:
    """Return the steps under `staging`, and note their mistakes."""
    if data is None:
        return Staging()
    try:
        return Staging.model_validate(data)
    except ValidationError as error:
        add_found(mistakes, error, _staging_place, _unknown_in_staging)
        return Staging()


def _staging_place(location: Place) -> Place:
    # After a step's index, Pydantic adds the kind that it chose; the file has no such
    # level.
    return ("staging", *location[:2], *location[3:])


def _unknown_in_staging(location: Place) -> str:
    is_in_step = len(location) > 2  # noqa: PLR2004 -- steps, index, kind, key
    model = STEPS[str(location[2])] if is_in_step else Staging
    return not_a_key(location[-1], model)
