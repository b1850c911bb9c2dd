"""A Slurm task that runs by itself, as a pipeline of one task."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tigerflow.errors import OptionError, TaskDefinitionError
from tigerflow.pipeline.schema import SlurmTaskSpec, split_commands
from tigerflow.pipeline.spec import Pipeline, PipelineTask
from tigerflow.pipeline.staging import Staging
from tigerflow.tasks.base import Task, TaskKind
from tigerflow.tasks.fields import ParamText

#: The value of `--memory`, a required option, for workers that request no amount.
NO_MEMORY = "none"

#: Key in a pipeline file -> option with another name on the command line.
_OPTIONS = {
    "sbatch_options": "sbatch_option",
    "setup_commands": "setup_command",
}


@dataclass(frozen=True)
class Program:
    """Where a worker finds the class whose command line this process runs."""

    #: A file or an import path, with `:Class`.
    module: str
    #: A path in the place of a pipeline file's.
    path: Path

    @classmethod
    def of(cls, task: type[Task]) -> "Program":
        """Find a class.

        Raises:
            TaskDefinitionError: other processes cannot import it.
        """
        name = task.__module__
        module = sys.modules.get(name)
        if getattr(module, task.__name__, None) is not task:
            msg = f"Task {task.__name__} must be defined at the top level of its module"
            raise TaskDefinitionError(msg)
        file = Path(getattr(module, "__file__", None) or "-")
        if name == "__main__":
            spec = getattr(module, "__spec__", None)
            if spec is None:
                return cls(_in_file(task, file.resolve()), file.resolve())
            name = spec.name
        # The same import path as in this process.
        return cls(
            f"{name}:{task.__name__}", Path(sys.path[0] or ".").absolute() / name
        )


def _in_file(task: type[Task], file: Path) -> str:
    if file.suffix != ".py":
        msg = f"Task {task.__name__} must be in a '.py' file that workers can import"
        raise TaskDefinitionError(msg)
    return f"{file}:{task.__name__}"


def pipeline_of_one(
    task: type[Task],
    name: str,
    extensions: tuple[str, str],
    options: Mapping[str, Any],
    params: Mapping[str, ParamText],
) -> Pipeline:
    """Return a pipeline that has only a Slurm task which runs by itself.

    So its options are checked as those of a pipeline file, with the same messages.

    Args:
        task: the class.
        name: name of the task, which may differ from that of the class.
        extensions: extension of the inputs, and of the outputs.
        options: the options of Slurm tasks, from the command line.
        params: texts of the task's params, by field name.

    Raises:
        OptionError: some options are wrong; it has a sentence for each.
        TaskDefinitionError: workers cannot import the class.
    """
    program = Program.of(task)
    commands = split_commands(options["setup_commands"] or "")
    resources = {key: options[key] for key in ("cpus", "memory", "time", "gpus")}
    if resources["memory"] == NO_MEMORY:
        resources["memory"] = None
    values = {
        "name": name,
        "kind": TaskKind.SLURM,
        "module": program.module,
        "input_ext": extensions[0],
        "output_ext": extensions[1],
        "setup_commands": [*commands, *(options["setup_command"] or ())],
        "max_workers": options["max_workers"],
        "worker_resources": {
            **resources,
            "sbatch_options": options["sbatch_option"] or (),
        },
        "batch_size": options.get("batch_size"),
    }
    try:
        spec = SlurmTaskSpec.model_validate(values)
    except ValidationError as error:
        raise OptionError(list(map(_sentence, error.errors()))) from error
    doc = task.__dict__.get("__doc__") or ""
    size = spec.batch_size or 1
    one = PipelineTask(spec, program.module, doc, params, code="", batch_size=size)
    return Pipeline(program.path, (one,), Staging(), warnings=())


def _sentence(mistake: Any) -> str:
    key = next(key for key in reversed(mistake["loc"]) if isinstance(key, str))
    option = _OPTIONS.get(key, key).replace("_", "-")
    reason = str(mistake.get("ctx", {}).get("error", mistake["msg"]))
    # On the command line, these are options.
    reason = reason.replace("worker_resources.", "--")
    choice = f"so give '--memory {NO_MEMORY}', or leave out the sbatch option"
    reason = reason.replace("so keep one", choice)
    return f"--{option}: {reason}"
