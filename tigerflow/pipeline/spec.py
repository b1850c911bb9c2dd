"""A pipeline file -> a `Pipeline`, or all of its mistakes at once, with their lines."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tigerflow.errors import TaskLoadError, did_you_mean
from tigerflow.pipeline.document import Document, Place, read_document
from tigerflow.pipeline.kind_mismatch import kind_mistake
from tigerflow.pipeline.mistakes import Mistakes, shown
from tigerflow.pipeline.reading import ReadTask, read_staging, read_tasks
from tigerflow.pipeline.schema import TaskDraft, TaskSpec
from tigerflow.pipeline.software import (
    check_software,
    is_environment_file,
    located,
)
from tigerflow.pipeline.staging import Staging
from tigerflow.pipeline.tree import check_tree, order
from tigerflow.rundir.plan import Plan, PlannedTask
from tigerflow.tasks.describe import TaskDescription
from tigerflow.tasks.fields import ParamText
from tigerflow.tasks.inquiry import Surroundings, ask_task
from tigerflow.tasks.loader import Reference
from tigerflow.tasks.registry import find_registered, rivals_of
from tigerflow.tasks.shell.environment import activate_conda, load_modules

#: Top-level keys with this prefix are the user's own, for values with YAML anchors.
ANCHORS = "x-"

#: The most modules loaded at once.
LOADED_AT_ONCE = 4


@dataclass(frozen=True)
class PipelineTask:
    """A task of a valid pipeline: its class exists, and its params are valid."""

    spec: TaskSpec
    #: Where the class is: an absolute path or an import path, with `:Class`.
    module: str
    #: The class's docstring.
    doc: str
    #: The params' texts by field name; workers convert them into values.
    param_texts: Mapping[str, ParamText]
    #: A digest of the class's source.
    code: str
    #: The most files in one call.
    batch_size: int = 1
    #: Sentences about relative paths that the class's file opens.
    openings: Sequence[str] = ()
    #: Defaults, by field name, of params that the pipeline file does not set.
    param_defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """A digest of code and params: outputs of different versions may differ."""
        text = json.dumps([self.code, self.param_texts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

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
    #: Lines about older forms, and about names with several meanings.
    warnings: tuple[str, ...]

    @property
    def input_ext(self) -> str:
        """The extension of the files that the pipeline starts from."""
        return next(t.spec.input_ext for t in self.tasks if t.spec.depends_on is None)

    @property
    def plan(self) -> Plan:
        """What it makes of each file."""
        tasks = tuple(
            PlannedTask(
                task.name,
                task.spec.depends_on,
                task.spec.output_ext,
                task.spec.keep_output,
            )
            for task in self.tasks
        )
        return Plan(self.input_ext, tasks)


@dataclass(frozen=True)
class PipelineDraft:
    """A pipeline file that may have mistakes."""

    path: Path
    mistakes: Mistakes
    #: Tasks without mistakes, by their place in the file.
    tasks: Mapping[Place, PipelineTask]
    staging: Staging

    def finished(self) -> Pipeline:
        """Return the pipeline.

        Raises:
            PipelineError: there are mistakes; it has a line for each.
        """
        self.mistakes.raise_any()
        tasks = {task.name: task for task in self.tasks.values()}
        parents = {name: task.spec.depends_on for name, task in tasks.items()}
        return Pipeline(
            path=self.path,
            tasks=tuple(tasks[name] for name in order(parents)),
            staging=self.staging,
            warnings=self.mistakes.warnings,
        )


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline file, load its tasks, and check everything that can be checked.

    Raises:
        PipelineError: there are mistakes; it has a line for each.
    """
    return read_pipeline(path).finished()


def read_pipeline(path: Path) -> PipelineDraft:
    """Read a pipeline file as `load_pipeline` does, but only note its mistakes.

    Raises:
        PipelineError: the file cannot be read, or has no tasks.
    """
    document = read_document(path)
    mistakes = Mistakes(document)
    data = document.data
    if not isinstance(data, dict) or not data:
        mistakes.add((), "expected a mapping with the key 'tasks'")
        mistakes.raise_any()
    for key in data.keys() - {"tasks", "staging"}:
        if key.startswith(ANCHORS):
            continue
        hint = did_you_mean(key, ("tasks", "staging"))
        if not hint and isinstance(data[key], dict | list):
            hint = f"; for a YAML anchor, name it '{ANCHORS}{key}'"
        mistakes.add((key,), f"unknown key{hint}")
    read = list(read_tasks(mistakes, data.get("tasks")))
    staging = read_staging(mistakes, data.get("staging"))
    check_tree(mistakes, read)
    tasks = dict(_load_tasks(mistakes, document, read))
    return PipelineDraft(path, mistakes, tasks, staging)


def _load_tasks(
    mistakes: Mistakes,
    document: Document,
    read: Sequence[ReadTask],
) -> Iterator[tuple[Place, PipelineTask]]:
    directory = document.path.resolve().parent

    def ask(task: ReadTask) -> TaskDescription | TaskLoadError:
        draft = located(task.draft, directory)
        texts = _param_texts(document, task)
        surroundings = Surroundings(_commands(draft), draft.container)
        try:
            return ask_task(draft.module or "", directory, texts, surroundings)
        except TaskLoadError as error:
            return error

    known = [task for task in read if task.draft.module is not None]
    with ThreadPoolExecutor(max_workers=LOADED_AT_ONCE) as pool:
        for task, found in zip(known, pool.map(ask, known), strict=True):
            check_software(mistakes, task, directory)
            if isinstance(found, TaskLoadError):
                mistakes.add((*task.place, "module"), str(found))
                continue
            _check_found(mistakes, task, directory, found)
            _point_out_rivals(mistakes, task)
            for remark in found.remarks:
                mistakes.warn((*task.place, "module"), remark)
            if task.spec is not None:
                module = _resolved(task.spec.module, directory, found)
                texts = _param_texts(document, task)
                by_name = {key.replace("-", "_"): text for key, text in texts.items()}
                size = task.spec.batch_size or found.batch_size or 1
                spec = located(task.spec, directory)
                doc, code, openings = found.doc, found.code, found.openings
                loaded = PipelineTask(
                    spec,
                    module,
                    doc,
                    by_name,
                    code,
                    size,
                    openings,
                    _defaults(found, by_name),
                )
                yield task.place, loaded


def _commands(draft: TaskDraft) -> list[str]:
    """Return the commands before a process of the task, as far as they are known."""
    # Snakemake creates an environment from a file for one output directory only.
    conda = None if is_environment_file(draft.conda) else draft.conda
    modules, environment = load_modules(draft.envmodules), activate_conda(conda)
    return [*modules, *environment, *draft.setup_commands]


def _param_texts(document: Document, task: ReadTask) -> dict[str, ParamText]:
    return {
        key: document.text((*task.place, "params", key)) for key in task.draft.params
    }


def _defaults(found: TaskDescription, given: Mapping[str, object]) -> dict[str, str]:
    """Return the defaults of params that are not given, except empty ones."""
    return {
        each.name: each.default_text
        for each in found.fields
        if each.default_text and each.keys.isdisjoint(given)
    }


def _check_found(
    mistakes: Mistakes, task: ReadTask, directory: Path, found: TaskDescription
) -> None:
    """Compare the task in the pipeline file with its class."""
    kind = task.draft.kind
    if kind is not None and found.kind != kind:
        module = task.draft.module or ""
        sentence = kind_mistake(kind, module, directory, found)
        mistakes.add((*task.place, "kind"), sentence)
    if task.draft.batch_size is not None and found.batch_size is None:
        sentence = (
            f"is only for tasks with run_batch, which {found.class_name} does not have"
        )
        mistakes.add((*task.place, "batch_size"), sentence)
    if "params" not in task.wrong:
        for key, sentence in {**found.param_mistakes, **_nested(task)}.items():
            mistakes.add((*task.place, "params", key), sentence)


def _point_out_rivals(mistakes: Mistakes, task: ReadTask) -> None:
    """Warn when several packages register the task's name."""
    module = task.draft.module or ""
    registered = find_registered(module.partition(":")[0])
    if registered is None:
        return
    for rival in rivals_of(registered):
        sentence = (
            f"{registered.name!r} is registered by both {registered.owner} and "
            f"{rival.owner}; TigerFlow uses the one from {registered.owner}, and "
            f"{rival.target!r} leads to the other"
        )
        mistakes.warn((*task.place, "module"), sentence)


def _nested(task: ReadTask) -> dict[str, str]:
    """Return the mistakes of params with values that no option can have."""
    mistakes = {}
    for key, value in task.draft.params.items():
        inner = value if isinstance(value, list) else [value]
        nested = [each for each in inner if isinstance(each, dict | list)]
        if nested:
            where = " in a list" if isinstance(value, list) else ""
            sentence = "expected one value or a list of values, found "
            mistakes[key] = f"{sentence}{shown(nested[0])}{where}"
        elif isinstance(value, list) and None in value:
            mistakes[key] = "expected a list of values, found null in it"
    return mistakes


def _resolved(module: str, directory: Path, found: TaskDescription) -> str:
    """Return where the class is, for a process in any directory."""
    reference = Reference.parse(module, directory)
    registered = find_registered(reference.module or "")
    name = reference.class_name
    if registered is not None:
        target = Reference.parse(registered.target, directory)
        return f"{target.module}:{name or target.class_name or found.class_name}"
    home = str(reference.path.resolve()) if reference.path else reference.module
    return f"{home}:{name or found.class_name}"
