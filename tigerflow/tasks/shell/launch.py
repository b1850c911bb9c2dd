"""The command line and environment of a process that runs after setup commands."""

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

#: What numerical libraries read to find how many threads to start. Snakemake sets them
#: for each job, to the job's threads; but workers are for many jobs.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: The only one that some programs obey (Tesseract); no other can exceed it.
_THREAD_LIMIT = "OMP_THREAD_LIMIT"

#: Has what the user has set of the variables that Snakemake sets.
_CARRIED_THREADS = "_TIGERFLOW_THREADS"

#: What every shell passes on. Bash exports the function `module` under another kind of
#: name, `BASH_FUNC_module%%`, and dash, which is `/bin/sh` on Debian, drops that.
_NAME_FOR_ALL = re.compile(r"[A-Za-z_]\w*", re.ASCII)

#: Begins the name under which a variable passes such a shell; the rest is its own name.
_CARRIED = "_TIGERFLOW_CARRIED_"

#: Begins the line on standard error that names a setup command that has failed.
SETUP_COMMAND_FAILED = "setup command failed: "


def setup_script(commands: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs `program` after the setup commands.

    All run in one bash, so that an environment which one activates holds for the next;
    the first that fails, or that ends the shell itself, is named on standard error.
    """
    if not commands:
        return list(program)
    steps = []
    for command in commands:
        first, *more = command.splitlines()
        words = shlex.quote(f"{SETUP_COMMAND_FAILED}{first}{' …' if more else ''}")
        report = f"code=$?; printf '%s (exit code %s)\\n' {words} \"$code\" >&2"
        # The command is on lines of its own: it may end in a comment.
        steps.append(f"trap -- {shlex.quote(report)} EXIT\n{{\n{command}\n}} || exit")
    return bash("\n".join([*steps, "trap - EXIT", f"exec {shlex.join(program)}"]))


def bash(script: str, *options: str) -> list[str]:
    """Return the command that runs setup commands, wherever they run or are checked.

    It is no login shell: the environment is that of `launch_environment`.
    """
    return ["bash", *options, "-c", script]


def carry_functions() -> None:
    """Have functions that bash has exported reach workers that `/bin/sh` starts."""
    for name, value in list(os.environ.items()):
        if not _NAME_FOR_ALL.fullmatch(name):
            os.environ[_CARRIED + os.fsencode(name).hex()] = value


def carry_threads() -> None:
    """Have the user's own numbers of threads reach workers that jobs start."""
    own = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    # In a job, that of the first Snakemake.
    os.environ.setdefault(_CARRIED_THREADS, json.dumps(own))


def default_threads(threads: int) -> None:
    """Tell libraries how many threads to start, before they are loaded; 0: nothing.

    What the user has set stays. OMP_NUM_THREADS is for all of them, and the limit would
    bound what the user has set for others.
    """
    if not threads or "OMP_NUM_THREADS" in os.environ:
        return
    if not any(name in os.environ for name in _THREAD_VARIABLES):
        os.environ.setdefault(_THREAD_LIMIT, str(threads))
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))


def starting_directory(home: str, run_dir: Path) -> Path:
    """Return where a process of a task starts: in `home`, where that exists.

    A node may not have the directory of the pipeline file; but then, no relative path
    can be meant to start there.
    """
    return Path(home) if Path(home).is_dir() else run_dir


def launch_environment() -> dict[str, str]:
    """Return this process's environment, in which `python` is this interpreter.

    Until a setup command activates another, whose place in PATH is before it. What
    Snakemake has set in it of threads is what the user had set again.
    """
    environment = _without_carrier(dict(os.environ))
    ours = str(Path(sys.executable).parent)
    path = environment.get("PATH", os.defpath)
    environment["PATH"] = os.pathsep.join([ours, path])
    own = environment.pop(_CARRIED_THREADS, None)
    if own is not None:
        for name in _THREAD_VARIABLES:
            environment.pop(name, None)
        environment |= json.loads(own)
    return environment


def _without_carrier(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which what was carried has its own names again."""
    carried = {
        os.fsdecode(bytes.fromhex(name.removeprefix(_CARRIED))): environment.pop(name)
        for name in list(environment)
        if name.startswith(_CARRIED)
    }
    return carried | environment
