"""Ask for a task's description, which another process makes.

Whatever a module does while it is imported (crash, exit, hang, print, start threads),
this process only sees a description, or a sentence that says why there is none.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tigerflow.errors import TaskLoadError
from tigerflow.tasks.describe import TaskDescription
from tigerflow.tasks.fields import FieldDescription, ParamText
from tigerflow.tasks.shell.environment import container_options, in_container
from tigerflow.tasks.shell.launch import launch_environment, setup_script

#: Seconds that a module may take to import before we assume that it hangs.
TIMEOUT_S = 60

# -P, so that a module in the current directory cannot replace one of ours.
_DESCRIBE = ("-P", "-m", "tigerflow.tasks.describe")


@dataclass(frozen=True)
class Surroundings:
    """The environment of a task's processes."""

    #: Shell commands that run first.
    commands: Sequence[str] = ()
    #: The image of their container, if there is one.
    container: str | None = None


HERE = Surroundings()


def ask_task(
    module: str,
    directory: Path,
    params: Mapping[str, ParamText] | None = None,
    surroundings: Surroundings = HERE,
) -> TaskDescription:
    """Return the description of a task, from `describe_task` in another process.

    Args:
        module: the `module` of a pipeline file.
        directory: directory of the pipeline file.
        params: params to check, too.
        surroundings: used if the module cannot be imported without them.

    Raises:
        TaskLoadError: the task cannot be described, with the reason in a sentence.
    """
    request = {"module": module, "directory": str(directory), "params": params}
    # Like a worker, it starts in the pipeline file's directory.
    answer = _ask([sys.executable, *_DESCRIBE], request, directory)
    if "error" in answer and surroundings != HERE:
        options = container_options(surroundings.container, [directory], has_gpus=False)
        program = in_container(options, ["python", *_DESCRIBE])
        script = setup_script(surroundings.commands, program)
        other = _ask(script, request, directory)
        answer = answer if "error" in other else other
    if "error" in answer:
        raise TaskLoadError(answer["error"])
    fields = tuple(FieldDescription(**each) for each in answer.pop("fields"))
    return TaskDescription(**answer, fields=fields)


def _ask(
    command: Sequence[str], request: Mapping[str, Any], directory: Path
) -> dict[str, Any]:
    # Not a pipe: a child that the module leaves behind could hold that open.
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env=launch_environment(),
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            took = f"takes longer than {TIMEOUT_S} seconds to import"
            return {"error": f"{request['module']} {took}"}
        # The answer is the last line: setup commands may print, too.
        *_, last = b"", *process.stdout.splitlines()
        answer = _object_in(last)
        if answer is None:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else _ending(process.returncode)
            return {"error": f"{request['module']} cannot be imported: {reason}"}
        return answer


def _object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line, if there is one."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None


def _ending(code: int) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it ended the process with exit code {code}"
