"""The options of a task's command line, beside those of its `Params`."""

from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from tigerflow.cli._profile import WorkersProfile
from tigerflow.tasks.base import Task, TaskKind, has_method


def _option(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(
        name,
        Parameter.KEYWORD_ONLY,
        annotation=annotation,
        default=default,
    )


def _text(help_text: str, *flags: str) -> Any:
    return Annotated[str, typer.Option(*flags, help=help_text)]


_BASE_OPTIONS = (
    _option(
        "input_dir",
        Annotated[Path, typer.Option(help="Input directory to read data")],
    ),
    _option("input_ext", _text("Input file extension")),
    _option(
        "output_dir",
        Annotated[Path, typer.Option(help="Output directory to store results")],
    ),
    _option("output_ext", _text("Output file extension")),
)

_KIND_OPTIONS: dict[TaskKind, tuple[Parameter, ...]] = {
    TaskKind.LOCAL: (),
    TaskKind.LOCAL_ASYNC: (
        _option(
            "concurrency_limit",
            Annotated[
                int,
                typer.Option(
                    min=1,
                    help="Maximum number of coroutines that may run concurrently at "
                    "any given time (excess coroutines are queued until capacity "
                    "becomes available)",
                ),
            ],
        ),
    ),
    TaskKind.SLURM: (
        _option(
            "max_workers",
            Annotated[
                int,
                typer.Option(min=1, help="Max number of workers for autoscaling"),
            ],
        ),
        _option(
            "cpus",
            Annotated[int, typer.Option(min=1, help="Number of CPUs per worker")],
        ),
        _option("memory", _text("Memory per worker")),
        _option("time", _text("Wall time per worker")),
        _option(
            "gpus",
            Annotated[str | None, typer.Option(help="Number of GPUs per worker")],
            None,
        ),
        _option(
            "sbatch_option",
            Annotated[
                list[str] | None,
                typer.Option(help="Additional Slurm option for workers (repeatable)"),
            ],
            None,
        ),
        _option(
            "setup_command",
            Annotated[
                list[str] | None,
                typer.Option(
                    help="Shell command to run before the task starts (repeatable)",
                ),
            ],
            None,
        ),
        _option(
            "setup_commands",
            Annotated[
                str | None,
                typer.Option(
                    help="Shell commands to run before the task starts "
                    "(separate commands with a semicolon)",
                ),
            ],
            None,
        ),
        _option("workers_profile", WorkersProfile, None),
    ),
}


def kind_options(task: type[Task]) -> tuple[Parameter, ...]:
    """Return the options that not every task has."""
    options = _KIND_OPTIONS[task.kind]
    if not has_method(task, "run_batch"):
        return options
    help_text = "Maximum number of waiting files that one call processes"
    batch_size = _option(
        "batch_size",
        Annotated[int, typer.Option(min=1, help=help_text)],
        task.batch_size,
    )
    return (*options, batch_size)


def epilog_of(task: type[Task]) -> str | None:
    """Return what follows the options in the task's help, if anything does."""
    if task.kind is not TaskKind.SLURM:
        return None
    # In the option's own help, it would be pushed apart from the others.
    return (
        "--memory: 16G or 512M; 0 for all memory of a node; none to ask for no amount, "
        "where the cluster has a default or --sbatch-option says how much."
    )


def all_options(task: type[Task]) -> list[Parameter]:
    """Return every option of the task, in the order in which help shows them."""
    name = _option("task_name", _text("Task name"), task.__name__)
    once = _option(
        "once",
        Annotated[
            bool,
            typer.Option(
                "--once",
                help="Process existing files, then exit (code 1 if any failed)",
            ),
        ],
        default=False,
    )
    return [
        *_BASE_OPTIONS,
        *kind_options(task),
        *(field.parameter for field in task.fields()),
        name,
        once,
    ]
