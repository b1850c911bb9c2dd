"""The command line and environment of a process that runs after setup commands."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

#: What numerical libraries read to find how many threads to start; Snakemake sets
#: them for each job, but the workers outlive the job that starts them.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


#: Begins the line on standard error that names a setup command that has failed.
SETUP_COMMAND_FAILED = "setup command failed: "


def setup_script(commands: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs `program` after the setup commands.

    All run in one bash, so that an environment which one activates holds for the next;
    the first that fails ends it, and is named on standard error.
    """
    if not commands:
        return list(program)
    steps = []
    for command in commands:
        first, *more = command.splitlines()
        words = shlex.quote(f"{SETUP_COMMAND_FAILED}{first}{' …' if more else ''}")
        report = f"code=$?; printf '%s (exit code %s)\\n' {words} \"$code\" >&2"
        # The command is on lines of its own: it may end in a comment.
        steps.append(f'{{\n{command}\n}} || {{ {report}; exit "$code"; }}')
    return ["bash", "-c", "\n".join([*steps, f"exec {shlex.join(program)}"])]


def launch_environment(threads: int | None = None) -> dict[str, str]:
    """Return this process's environment, in which `python` is this interpreter.

    Until a setup command activates another, whose place in PATH is before it. Libraries
    are told how many `threads` to start: with 0 nothing, with None what they were told
    here.
    """
    environment = dict(os.environ)
    ours = str(Path(sys.executable).parent)
    path = environment.get("PATH", os.defpath)
    environment["PATH"] = os.pathsep.join([ours, path])
    for variable in _THREAD_VARIABLES if threads is not None else ():
        environment.pop(variable, None)
        if threads:
            environment[variable] = str(threads)
    return environment
