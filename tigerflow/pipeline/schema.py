"""The schema of a pipeline file: the keys of a task, their types and limits."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from tigerflow.naming import check_extension, check_task_name
from tigerflow.pipeline import amounts
from tigerflow.pipeline.resources import check_memory_once
from tigerflow.pipeline.sbatch_options import parse_sbatch_options
from tigerflow.tasks.base import TaskKind
from tigerflow.tasks.shell.commands import check_syntax

# A construct of several lines, none of which makes sense alone.
_MANY_LINES = re.compile(
    r"^\s*(if|for|while|until|case|select|function)\b|<<|\(\)|([{(|]|&&)\s*$",
    re.MULTILINE,
)

# Options of sbatch that users may expect among the resources.
_SBATCH_OPTIONS = frozenset(
    {"account", "constraint", "exclude", "nodelist", "partition", "qos", "reservation"}
)

_MODULE = re.compile(r"[\w./+:@=~][\w./+:@=~-]*", re.ASCII)

# Characters to which Snakemake gives another meaning.
_NO_SOFTWARE = re.compile(r"""[\s'"{},]|^-""")

_BETWEEN_SEMICOLONS = re.compile(
    r"""(?:[^;'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"\\])+""", re.DOTALL
)


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        # Python would accept true as 1.
        msg = f"expected a number, found {str(value).lower()}"
        raise ValueError(msg)  # noqa: TRY004 -- Pydantic passes a TypeError on
    return value


def _commands(value: object) -> object:
    """Split a block of text into its lines, unless they belong together."""
    if not isinstance(value, str):
        return _empty_if_null(value)
    if _MANY_LINES.search(value):
        return [value.rstrip()]
    lines = value.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()[:1] not in {"", "#"}]


def split_commands(text: str) -> list[str]:
    """Return the commands of a line, which semicolons separate.

    Quotes may have semicolons of their own; a construct such as `if` stays whole.
    """
    commands = [each.strip() for each in _BETWEEN_SEMICOLONS.findall(text)]
    if _MANY_LINES.search("\n".join(commands)):
        return [text]
    return [each for each in commands if each]


def _empty_if_null(value: object) -> object:
    return () if value is None else value


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else _empty_if_null(value)


def _check_module(name: str) -> str:
    # Snakemake does not quote it in its command.
    if not _MODULE.fullmatch(name):
        msg = f"{name!r} is not the name of an environment module, such as ffmpeg/6.0"
        raise ValueError(msg)
    return name


def _check_software(value: str) -> str:
    if not value or _NO_SOFTWARE.search(value):
        msg = f"{value!r} must be a name or a path without spaces, quotes or braces"
        raise ValueError(msg)
    return value


def _no_params_if_null(value: object) -> object:
    return {} if value is None else value


def _checked_by(check: Callable[..., object]) -> AfterValidator:
    def validate(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return AfterValidator(validate)


def _check_memory_once(
    options: tuple[str, ...], info: ValidationInfo
) -> tuple[str, ...]:
    parsed = parse_sbatch_options(options)
    check_memory_once(info.data.get("memory"), parsed)
    return options


_Extension = Annotated[str, AfterValidator(check_extension)]
_Text = Annotated[str, BeforeValidator(_number_as_text)]
_Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1)]
_Seconds = Annotated[
    float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)
]
_Params = Annotated[dict[str, Any], BeforeValidator(_no_params_if_null)]
_Software = Annotated[str, AfterValidator(_check_software)]
_Modules = Annotated[
    tuple[Annotated[str, AfterValidator(_check_module)], ...],
    BeforeValidator(_one_or_many),
]
_Commands = Annotated[tuple[str, ...], BeforeValidator(_commands)]
_Readable = Annotated[str, AfterValidator(check_syntax)]
_ReadableCommands = Annotated[tuple[_Readable, ...], BeforeValidator(_commands)]


class WorkerResources(BaseModel):
    """The resources of each worker of a Slurm task, in Slurm's own terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: CPUs.
    cpus: _Count
    #: Memory, with Slurm's units: `12G`, `512M`. A number alone is in megabytes; `0` is
    #: all memory of a node. Without this key, jobs request no amount of memory, unless
    #: `sbatch_options` has `--mem-per-cpu`.
    memory: Annotated[_Text | None, _checked_by(amounts.parse_memory_mb)] = None
    #: Wall time, in any of Slurm's forms: `02:00:00`, `1-12`, `90` (minutes).
    time: Annotated[_Text, _checked_by(amounts.parse_time_minutes)]
    #: GPUs, as `count` or `type:count`.
    gpus: Annotated[_Text | None, _checked_by(amounts.parse_gpus)] = None
    #: Other options of `sbatch`, such as `--partition=gpu`.
    sbatch_options: Annotated[
        tuple[_Text, ...],
        BeforeValidator(_empty_if_null),
        _checked_by(parse_sbatch_options),
        AfterValidator(_check_memory_once),
    ] = ()


class TaskSpec(BaseModel):
    """One task of a pipeline file: the keys that all kinds share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The name of its rule and of the directory with its results: a letter, then
    #: letters, digits, `-` and `_`.
    name: Annotated[str, AfterValidator(check_task_name)]
    #: Where it runs, and how many files it processes at once.
    kind: TaskKind
    #: `task.py`, relative to the pipeline file; `package.module`; or the name of an
    #: installed task. `…:Class` chooses one of several classes.
    module: str = Field(min_length=1)
    #: The task whose outputs are its inputs. Without it, inputs come from the input
    #: directory.
    depends_on: str | None = None
    #: Extension of its input files, such as `.tar.gz`.
    input_ext: _Extension
    #: Extension of its outputs.
    output_ext: _Extension = ".out"
    #: `false` removes each output once every task that depends on it is done.
    keep_output: bool = True
    #: Values for the task's `Params`.
    params: _Params = Field(default_factory=dict)
    #: Environment modules to load before its workers start, such as `[ffmpeg/6.0]`.
    envmodules: _Modules = ()
    #: Conda environment for its workers: a name, a directory, or an `environment.yaml`
    #: from which Snakemake creates one (`--sdm conda`).
    conda: _Software | None = None
    #: Image for its workers, run by `apptainer`: `docker://…`, or a file.
    container: _Software | None = None
    #: Shell commands to run before its workers start, such as `conda activate x`: a
    #: list, or a block of text.
    setup_commands: _ReadableCommands = ()
    #: Seconds that `run` may take; a file that takes longer fails. `run_batch` gets
    #: this time for each of its files.
    timeout: _Seconds | None = None
    #: The most files in one call of `run_batch`; by default, that of the class.
    batch_size: _Count | None = None


class LocalTaskSpec(TaskSpec):
    """One file at a time on this machine, or one in each of several processes."""

    kind: Literal[TaskKind.LOCAL]
    #: Worker processes, each with its own `setup` and one file at a time.
    workers: _Count = 1


class LocalAsyncTaskSpec(TaskSpec):
    """Up to `concurrency_limit` files at a time on this machine."""

    kind: Literal[TaskKind.LOCAL_ASYNC]
    #: The most concurrent calls of `run`, or of `run_batch`.
    concurrency_limit: _Count


class SlurmTaskSpec(TaskSpec):
    """Up to `max_workers` files at a time on compute nodes."""

    kind: Literal[TaskKind.SLURM]
    #: The most workers at once; they start while files wait.
    max_workers: _Count
    #: How many workers share one job, each with a part of its resources.
    workers_per_job: _Count = 1
    #: The resources of each worker.
    worker_resources: WorkerResources


#: The schema of each kind.
TASK_MODELS: Mapping[str, type[TaskSpec]] = {
    TaskKind.LOCAL: LocalTaskSpec,
    TaskKind.LOCAL_ASYNC: LocalAsyncTaskSpec,
    TaskKind.SLURM: SlurmTaskSpec,
}


class TaskDraft(BaseModel):
    """A task that may have mistakes; a key with a mistake is None."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str | None = None
    kind: TaskKind | None = None
    module: str | None = None
    depends_on: str | None = None
    input_ext: str | None = None
    output_ext: str | None = ".out"
    params: _Params = Field(default_factory=dict)
    setup_commands: _Commands = ()
    envmodules: _Modules = ()
    conda: str | None = None
    container: str | None = None
    batch_size: Any = None


def unknown_key(location: tuple[str | int, ...], model: type[TaskSpec]) -> str | None:
    """Return where an unknown key of a task belongs, or None if that is not known."""
    *outer, key = location
    if outer == ["worker_resources"] and key in SlurmTaskSpec.model_fields:
        return "belongs beside worker_resources, not in it"
    if model is SlurmTaskSpec and key in _SBATCH_OPTIONS:
        return (
            "is an sbatch option; write "
            f"'sbatch_options: [--{key}=NAME]' in worker_resources"
        )
    if outer:
        return None
    if key in WorkerResources.model_fields and model is SlurmTaskSpec:
        return "belongs in worker_resources"
    kinds = [kind for kind, other in TASK_MODELS.items() if key in other.model_fields]
    return f"is only for tasks of kind {kinds[0]}" if kinds else None
