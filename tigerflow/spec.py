"""A pipeline file -> `Pipeline`, or all its mistakes at once, each with its line."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from tigerflow import graph, resources
from tigerflow.document import Document, Place, read_document
from tigerflow.errors import PipelineError, did_you_mean
from tigerflow.naming import check_extension, check_task_name
from tigerflow.staging import Staging
from tigerflow.tasks.base import TaskKind
from tigerflow.tasks.loader import Reference
from tigerflow.tasks.params import ParamText
from tigerflow.tasks.launch import setup_script

#: A module that takes longer than this to import is taken for one that hangs.
DESCRIBE_TIMEOUT_S = 60

KINDS = tuple(kind.value for kind in TaskKind)


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _commands(value: object) -> object:
    """Split a block of text into its lines, as the older form of the file has it."""
    if isinstance(value, str):
        lines = value.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip()[:1] not in {"", "#"}]
    return [] if value is None else value


def _checked_by(check: Callable[..., object]) -> AfterValidator:
    def validate(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return AfterValidator(validate)


Extension = Annotated[str, AfterValidator(check_extension)]
_Text = Annotated[str, BeforeValidator(_number_as_text)]


class WorkerResources(BaseModel):
    """What each worker of a Slurm task gets, in Slurm's own terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: int = Field(ge=1)
    memory: Annotated[_Text, _checked_by(resources.parse_memory_mb)]
    time: Annotated[_Text, _checked_by(resources.parse_time_minutes)]
    gpus: Annotated[
        Annotated[str, BeforeValidator(_number_as_text)] | None,
        _checked_by(resources.parse_gpus),
    ] = None
    sbatch_options: Annotated[
        tuple[_Text, ...],
        _checked_by(resources.parse_sbatch_options),
    ] = ()


class TaskSpec(BaseModel):
    """One task of a pipeline file; what all kinds have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(check_task_name)]
    kind: TaskKind
    module: str = Field(min_length=1)
    depends_on: str | None = None
    input_ext: Extension
    output_ext: Extension = ".out"
    keep_output: bool = True
    params: dict[str, Any] = Field(default_factory=dict)
    setup_commands: Annotated[tuple[str, ...], BeforeValidator(_commands)] = ()


class LocalTaskSpec(TaskSpec):
    """One file at a time on this machine."""

    kind: Literal[TaskKind.LOCAL]


class LocalAsyncTaskSpec(TaskSpec):
    """Up to `concurrency_limit` files at a time on this machine."""

    kind: Literal[TaskKind.LOCAL_ASYNC]
    concurrency_limit: int = Field(ge=1)


class SlurmTaskSpec(TaskSpec):
    """Up to `max_workers` files at a time on compute nodes."""

    kind: Literal[TaskKind.SLURM]
    max_workers: int = Field(ge=1)
    worker_resources: WorkerResources


_MODELS: dict[str, type[TaskSpec]] = {
    TaskKind.LOCAL: LocalTaskSpec,
    TaskKind.LOCAL_ASYNC: LocalAsyncTaskSpec,
    TaskKind.SLURM: SlurmTaskSpec,
}


@dataclass(frozen=True)
class PipelineTask:
    """A task of a valid pipeline, with its class found and its params checked."""

    spec: TaskSpec
    #: Where the class is: an absolute path or an import path, with `:Class`.
    module: str
    #: The class's docstring.
    doc: str
    #: The params' texts by field name, as the task's process converts them again.
    param_texts: Mapping[str, ParamText]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.spec.name


@dataclass(frozen=True)
class Pipeline:
    """A valid pipeline file."""

    path: Path
    #: Each after the one it depends on.
    tasks: tuple[PipelineTask, ...]
    staging: Staging
    #: Lines about older forms that were understood.
    warnings: tuple[str, ...]

    @property
    def input_ext(self) -> str:
        """The extension of the files that the pipeline starts from."""
        return next(t.spec.input_ext for t in self.tasks if t.spec.depends_on is None)

    @property
    def leaf_names(self) -> frozenset[str]:
        """The tasks that no other depends on."""
        parents = {task.name: task.spec.depends_on for task in self.tasks}
        return frozenset(graph.leaves(parents))


@dataclass
class _Reading:
    """A pipeline file on its way to becoming a `Pipeline`."""

    document: Document
    mistakes: list[tuple[Place, str]] = field(default_factory=list)
    warnings: list[tuple[Place, str]] = field(default_factory=list)

    def wrong(self, place: Place, sentence: str) -> None:
        self.mistakes.append((place, sentence))

    def lines(self, found: list[tuple[Place, str]]) -> list[str]:
        """Return `file:line: place: sentence` for each, in order of the file."""
        path = self.document.path
        lines = [(self.document.line(place), place, text) for place, text in found]
        return [
            f"{path}:{line}: {_place_name(place)}{text}"
            for line, place, text in sorted(lines, key=lambda each: each[0])
        ]

    def raise_mistakes(self) -> None:
        if self.mistakes:
            raise PipelineError(self.lines(self.mistakes))


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline file, load its tasks, and check everything that can be checked.

    Raises:
        PipelineError: with one line for each mistake found.
    """
    document = read_document(path)
    reading = _Reading(document, mistakes=list(document.mistakes))
    data = document.data
    if not isinstance(data, dict) or not data:
        reading.wrong((), "expected a mapping with 'tasks'")
        reading.raise_mistakes()
    _refuse_unknown(reading, (), data, ("tasks", "staging"))
    specs = dict(_read_tasks(reading, data.get("tasks")))
    staging = _read_staging(reading, data.get("staging"))
    _check_tree(reading, specs)
    tasks = _load_tasks(reading, specs)
    reading.raise_mistakes()
    by_name = {task.name: task for task in tasks}
    parents = {task.name: task.spec.depends_on for task in tasks}
    return Pipeline(
        path=path,
        tasks=tuple(by_name[name] for name in graph.order(parents)),
        staging=staging,
        warnings=tuple(reading.lines(reading.warnings)),
    )


def _read_tasks(reading: _Reading, data: object) -> Iterator[tuple[int, TaskSpec]]:
    if not isinstance(data, list) or not data:
        reading.wrong(("tasks",), "expected a list with at least one task")
        return
    for index, item in enumerate(data):
        place: Place = ("tasks", index)
        if not isinstance(item, dict):
            reading.wrong(place, f"expected a mapping, found {_shown(item)}")
            continue
        kind = item.get("kind")
        if kind not in KINDS:
            reading.wrong((*place, "kind"), _kind_mistake(kind))
            continue
        item, moved = _from_older_form(reading, place, item)  # noqa: PLW2901 -- the same task
        spec = _validate(reading, place, _MODELS[kind], item, moved)
        if spec is not None:
            yield index, spec


def _kind_mistake(kind: object) -> str:
    if kind is None:
        return f"is required; one of {', '.join(KINDS)}"
    hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
    return f"{_shown(kind)} is not a kind (kinds: {', '.join(KINDS)}){hint}"


def _from_older_form(
    reading: _Reading,
    place: Place,
    item: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Understand `resources:` with `max_workers` in it, which older files have."""
    old = item.get("resources")
    if "worker_resources" in item or not isinstance(old, dict):
        return item, {}
    new = {key: value for key, value in item.items() if key != "resources"}
    new["worker_resources"] = {k: v for k, v in old.items() if k != "max_workers"}
    if "max_workers" in old:
        new.setdefault("max_workers", old["max_workers"])
    sentence = "is the older form; write worker_resources, and max_workers beside it"
    reading.warnings.append(((*place, "resources"), sentence))
    return new, {"worker_resources": "resources"}


def _validate(
    reading: _Reading,
    place: Place,
    model: type[TaskSpec],
    item: dict[str, Any],
    moved: Mapping[str, str],
) -> TaskSpec | None:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        for mistake in error.errors():
            location = mistake["loc"]
            first = moved.get(str(location[0]), location[0]) if location else ""
            here = (*place, first, *location[1:]) if location else place
            reading.wrong(here, _sentence(mistake, model))
        return None


def _read_staging(reading: _Reading, data: object) -> Staging:
    if data is None:
        return Staging()
    try:
        return Staging.model_validate(data)
    except ValidationError as error:
        for mistake in error.errors():
            kinds = _step_kinds()
            # Pydantic names the kind it chose behind the step's index; the file doesn't.
            place = tuple(part for part in mistake["loc"] if part not in kinds)
            reading.wrong(("staging", *place), _sentence(mistake, Staging))
        return Staging()


def _step_kinds() -> list[str]:
    schema = Staging.model_json_schema()
    return sorted(schema["properties"]["steps"]["items"]["discriminator"]["mapping"])


def _sentence(mistake: Any, model: type[BaseModel]) -> str:
    """Say what Pydantic found in this project's words."""
    found = _shown(mistake.get("input"))
    context = mistake.get("ctx", {})
    match mistake["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown_key(mistake["loc"], model)
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {context['ge']}, found {found}"
        case "greater_than":
            return f"must be greater than {context['gt']}, found {found}"
        case "int_type" | "int_parsing" | "int_from_float" | "float_type":
            return f"expected a number, found {found}"
        case "bool_type" | "bool_parsing":
            return f"expected true or false, found {found}"
        case "string_type":
            return f"expected a text, found {found}"
        case "string_too_short":
            return "must not be empty"
        case "list_type" | "tuple_type":
            return f"expected a list, found {found}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"expected a mapping, found {found}"
        case "union_tag_invalid":
            hint = did_you_mean(str(context["tag"]), _step_kinds())
            return f"{context['tag']!r} is not a kind of step{hint}"
        case "union_tag_not_found":
            return f"has no kind; one of {', '.join(_step_kinds())}"
        case _:
            return f"{mistake['msg']}, found {found}"


def _unknown_key(location: tuple[str | int, ...], model: type[BaseModel]) -> str:
    key = str(location[-1])
    for kind, other in _MODELS.items():
        if len(location) == 1 and key in other.model_fields:
            return f"goes with kind: {kind} only"
    nested = location[0] == "worker_resources" and len(location) > 1
    known = (WorkerResources if nested else model).model_fields
    return f"is not a key here{did_you_mean(key, list(known))}"


def _refuse_unknown(
    reading: _Reading,
    place: Place,
    data: Mapping[str, Any],
    known: tuple[str, ...],
) -> None:
    for key in data.keys() - set(known):
        reading.wrong((*place, key), f"is not a key here{did_you_mean(key, known)}")


def _check_tree(reading: _Reading, specs: Mapping[int, TaskSpec]) -> None:
    by_name: dict[str, TaskSpec] = {}
    rules: dict[str, str] = {}
    for index, spec in specs.items():
        other = rules.setdefault(rule_name(spec.name), spec.name)
        if spec.name in by_name:
            reading.wrong(("tasks", index, "name"), f"{spec.name!r} is there twice")
        elif other != spec.name:
            sentence = f"{spec.name!r} and {other!r} give the same rule name"
            reading.wrong(("tasks", index, "name"), sentence)
        by_name.setdefault(spec.name, spec)
    names = _all_names(reading)
    for index, spec in specs.items():
        _check_parent(reading, ("tasks", index), spec, by_name, names)
    _check_roots(reading, specs)
    parents = {
        name: spec.depends_on if spec.depends_on in by_name else None
        for name, spec in by_name.items()
    }
    if cycle := graph.find_cycle(parents):
        index = next(i for i, spec in specs.items() if spec.name == cycle[0])
        sentence = f"the tasks depend on each other: {' -> '.join(cycle)}"
        reading.wrong(("tasks", index, "depends_on"), sentence)


def _all_names(reading: _Reading) -> list[str]:
    """Return all tasks' names, also of those with other mistakes."""
    tasks = reading.document.data.get("tasks")
    items = tasks if isinstance(tasks, list) else []
    names = (item.get("name") for item in items if isinstance(item, dict))
    return [name for name in names if isinstance(name, str)]


def _check_parent(
    reading: _Reading,
    place: Place,
    spec: TaskSpec,
    by_name: Mapping[str, TaskSpec],
    names: list[str],
) -> None:
    parent_name = spec.depends_on
    if parent_name is None:
        return
    if parent_name not in names:
        others = [name for name in names if name != spec.name]
        hint = did_you_mean(parent_name, others) or f" (tasks: {', '.join(others)})"
        sentence = f"{parent_name!r} is not a task{hint}"
        reading.wrong((*place, "depends_on"), sentence)
        return
    parent = by_name.get(parent_name)
    if parent is not None and parent.output_ext != spec.input_ext:
        sentence = (
            f"{spec.input_ext!r} is not what {parent_name!r} makes; "
            f"its output_ext is {parent.output_ext!r}"
        )
        reading.wrong((*place, "input_ext"), sentence)


def _check_roots(reading: _Reading, specs: Mapping[int, TaskSpec]) -> None:
    roots = {i: spec for i, spec in specs.items() if spec.depends_on is None}
    first = next(iter(roots.values()), None)
    for index, spec in roots.items():
        if first is not None and spec.input_ext != first.input_ext:
            sentence = (
                f"{spec.input_ext!r} differs from the {first.input_ext!r} of "
                f"{first.name!r}; tasks without depends_on read the same files"
            )
            reading.wrong(("tasks", index, "input_ext"), sentence)


def rule_name(task_name: str) -> str:
    """Return the Snakemake rule name of a task: `-` is not allowed in it."""
    return task_name.replace("-", "_")


def _load_tasks(
    reading: _Reading,
    specs: Mapping[int, TaskSpec],
) -> list[PipelineTask]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        loaded = pool.map(partial(_load_task, reading), specs, specs.values())
        return [task for task in loaded if task is not None]


def _load_task(reading: _Reading, index: int, spec: TaskSpec) -> PipelineTask | None:
    place: Place = ("tasks", index)
    directory = reading.document.path.resolve().parent
    params = {
        key: reading.document.text((*place, "params", key)) for key in spec.params
    }
    found = _describe(spec, directory, params)
    if "error" in found:
        reading.wrong((*place, "module"), found["error"])
        return None
    if found["kind"] != spec.kind:
        sentence = (
            f"is {spec.kind.value!r}, but {found['class_name']} is of kind "
            f"{found['kind']!r}; change this, or the class it derives from"
        )
        reading.wrong((*place, "kind"), sentence)
    for key, sentence in found["param_mistakes"].items():
        reading.wrong((*place, "params", key), sentence)
    reference = Reference.parse(spec.module, directory)
    home = str(reference.path.resolve()) if reference.path else found["module"]
    return PipelineTask(
        spec=spec,
        module=f"{home}:{found['class_name']}",
        doc=found["doc"],
        param_texts={key.replace("-", "_"): text for key, text in params.items()},
    )


def _describe(
    spec: TaskSpec,
    directory: Path,
    params: Mapping[str, ParamText],
) -> dict[str, Any]:
    request = {"module": spec.module, "directory": str(directory), "params": params}
    found = _ask([sys.executable, *_DESCRIBE], request)
    if "error" in found and spec.setup_commands:
        # The module may need what the task's own environment has.
        script = setup_script(spec.setup_commands, ["python", *_DESCRIBE])
        other = _ask(script, request)
        return found if "error" in other else other
    return found


_DESCRIBE = ("-m", "tigerflow.tasks.describe")


def _ask(command: list[str], request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        process = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DESCRIBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        took = f"takes longer than {DESCRIBE_TIMEOUT_S} seconds to import"
        return {"error": f"{request['module']} {took}"}
    try:
        answer: dict[str, Any] = json.loads(process.stdout)
    except ValueError:
        last = (process.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return {"error": f"{request['module']} cannot be imported: {last}"}
    return answer


def _place_name(place: Place) -> str:
    """Return `tasks[2].depends_on: ` for ("tasks", 2, "depends_on")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{text.removeprefix('.')}: " if text else ""


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)
