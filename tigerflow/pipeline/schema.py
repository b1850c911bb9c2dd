"""The shape of a pipeline file: which keys a task has, their types and limits."""

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

# A construct over several lines, of which no line makes sense alone.
_MANY_LINES = re.compile(
    r"^\s*(if|for|while|until|case|select|function)\b|<<|\(\)|([{(|]|&&)\s*$",
    re.MULTILINE,
)

# What people look for among the resources, and give as an option of sbatch.
_SBATCH_OPTIONS = frozenset(
    {"account", "constraint", "exclude", "nodelist", "partition", "qos", "reservation"}
)

_MODULE = re.compile(r"[\w./+:@=~][\w./+:@=~-]*", re.ASCII)

# Snakemake would read them in other ways.
_NO_SOFTWARE = re.compile(r"""[\s'"{},]|^-""")

_BETWEEN_SEMICOLONS = re.compile(
    r"""(?:[^;'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"\\])+""", re.DOTALL
)


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        # Else Python would take true for 1.
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
    # Snakemake puts it into a command as it is.
    if not _MODULE.fullmatch(name):
        msg = f"{name!r} is not the name of a module, such as ffmpeg/6.0"
        raise ValueError(msg)
    return name


def _check_software(value: str) -> str:
    if not value or _NO_SOFTWARE.search(value):
        msg = f"{value!r} must be a name or a path without spaces, quotes and braces"
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
    """What each worker of a Slurm task gets, in Slurm's own terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: CPUs.
    cpus: _Count
    #: Memory, with Slurm's units: `12G`, `512M`; a number alone is megabytes, `0` all
    #: of a node. Without it, jobs ask for none, unless `sbatch_options` have
    #: `--mem-per-cpu`.
    memory: Annotated[_Text | None, _checked_by(amounts.parse_memory_mb)] = None
    #: Wall time, in any of Slurm's forms: `02:00:00`, `1-12`, `90` (minutes).
    time: Annotated[_Text, _checked_by(amounts.parse_time_minutes)]
    #: GPUs, as a count or `type:count`.
    gpus: Annotated[_Text | None, _checked_by(amounts.parse_gpus)] = None
    #: Further options of `sbatch`, such as `--partition=gpu`.
    sbatch_options: Annotated[
        tuple[_Text, ...],
        BeforeValidator(_empty_if_null),
        _checked_by(parse_sbatch_options),
        AfterValidator(_check_memory_once),
    ] = ()


class TaskSpec(BaseModel):
    """One task of a pipeline file; what all kinds have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Names the rule, and the directory of the results; a letter, then letters, digits,
    #: `-` and `_`.
    name: Annotated[str, AfterValidator(check_task_name)]
    #: Where it runs, and how many files at once.
    kind: TaskKind
    #: `task.py`, relative to the pipeline file; `package.module`; or the name of a task
    #: that is installed. `…:Class` chooses one of several.
    module: str = Field(min_length=1)
    #: The task whose outputs are its inputs; else the input directory has them.
    depends_on: str | None = None
    #: What its input files end in, such as `.tar.gz`.
    input_ext: _Extension
    #: What its outputs end in.
    output_ext: _Extension = ".out"
    #: `false`: an output goes when all that depends on it is done.
    keep_output: bool = True
    #: Values for the task's `Params`.
    params: _Params = Field(default_factory=dict)
    #: Environment modules that are loaded before its workers start, such as
    #: `[ffmpeg/6.0]`.
    envmodules: _Modules = ()
    #: Conda environment that its workers run in: a name, a directory, or an
    #: `environment.yaml`, of which Snakemake makes one (`--sdm conda`).
    conda: _Software | None = None
    #: Image that its workers run in, by `apptainer`: `docker://…`, or a file.
    container: _Software | None = None
    #: Shell commands before its workers start, such as `conda activate x`; or a block
    #: of text.
    setup_commands: _ReadableCommands = ()
    #: For how many seconds `run` may take; a file that takes longer fails. `run_batch`
    #: has that time for each of its files.
    timeout: _Seconds | None = None
    #: Up to how many files `run_batch` gets at once; else the class says so.
    batch_size: _Count | None = None


class LocalTaskSpec(TaskSpec):
    """One file at a time on this machine, or in each of several processes."""

    kind: Literal[TaskKind.LOCAL]
    #: Processes, each with its own `setup` and one file at a time.
    workers: _Count = 1


class LocalAsyncTaskSpec(TaskSpec):
    """Up to `concurrency_limit` files at a time on this machine."""

    kind: Literal[TaskKind.LOCAL_ASYNC]
    #: Files in flight at once; with `run_batch`, calls of it.
    concurrency_limit: _Count


class SlurmTaskSpec(TaskSpec):
    """Up to `max_workers` files at a time on compute nodes."""

    kind: Literal[TaskKind.SLURM]
    #: Workers at once, at most; they come while files wait.
    max_workers: _Count
    #: How many of the workers share one job, each with its part of it.
    workers_per_job: _Count = 1
    #: What each worker gets.
    worker_resources: WorkerResources


#: The shape of each kind.
TASK_MODELS: Mapping[str, type[TaskSpec]] = {
    TaskKind.LOCAL: LocalTaskSpec,
    TaskKind.LOCAL_ASYNC: LocalAsyncTaskSpec,
    TaskKind.SLURM: SlurmTaskSpec,
}


class TaskDraft(BaseModel):
    """What can be read of a task that may have mistakes; null where it has one."""

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
    """Return where a key of a task belongs that is not known where it stands."""
    *outer, key = location
    if outer == ["worker_resources"] and key in SlurmTaskSpec.model_fields:
        return "goes beside worker_resources, not into it"
    if model is SlurmTaskSpec and key in _SBATCH_OPTIONS:
        return (
            "is an option of sbatch; write "
            f"'sbatch_options: [--{key}=NAME]' in worker_resources"
        )
    if outer:
        return None
    if key in WorkerResources.model_fields and model is SlurmTaskSpec:
        return "goes into worker_resources"
    kinds = [kind for kind, other in TASK_MODELS.items() if key in other.model_fields]
    return f"goes with kind: {kinds[0]} only" if kinds else None
