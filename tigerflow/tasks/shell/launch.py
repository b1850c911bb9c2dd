"""The command line and environment of a process that runs after setup commands."""

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

#: Numbers of threads for numerical libraries. Snakemake sets them for each job, to the
#: threads of the job; but workers serve many jobs.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: An upper limit for the others, and the only variable that some programs obey
#: (Tesseract).
_THREAD_LIMIT = "OMP_THREAD_LIMIT"

#: Carries the user's own values of the variables that Snakemake sets.
_CARRIED_THREADS = "_TIGERFLOW_THREADS"

#: Names of variables that every shell passes on. Bash exports the function `module` as
#: `BASH_FUNC_module%%`, which dash, the `/bin/sh` of Debian, drops.
_NAME_FOR_ALL = re.compile(r"[A-Za-z_]\w*", re.ASCII)

#: Prefix of the name with which a variable passes such a shell; its own name follows.
_CARRIED = "_TIGERFLOW_CARRIED_"

#: Start of the line on standard error that names a setup command that failed.
SETUP_COMMAND_FAILED = "setup command failed: "


def setup_script(commands: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs `program` after the setup commands.

    All run in one bash, so that each command sees the environment of those before it.
    The first command that fails, or that exits the shell, is named on standard error.
    """
    if not commands:
        return list(program)
    steps = []
    for command in commands:
        first, *more = command.splitlines()
        words = shlex.quote(f"{SETUP_COMMAND_FAILED}{first}{' …' if more else ''}")
        report = f"code=$?; printf '%s (exit code %s)\\n' {words} \"$code\" >&2"
        # The command has its own lines, since it may end in a comment.
        steps.append(f"trap -- {shlex.quote(report)} EXIT\n{{\n{command}\n}} || exit")
    return bash("\n".join([*steps, "trap - EXIT", f"exec {shlex.join(program)}"]))


def bash(script: str, *options: str) -> list[str]:
    """Return the command with which setup commands run or are checked.

    It starts no login shell: the environment is that of `launch_environment`.
    """
    return ["bash", *options, "-c", script]


def carry_functions() -> None:
    """Carry functions that bash exports to workers that `/bin/sh` starts."""
    for name, value in list(os.environ.items()):
        if not _NAME_FOR_ALL.fullmatch(name):
            os.environ[_CARRIED + os.fsencode(name).hex()] = value


def carry_threads() -> None:
    """Carry the user's own numbers of threads to workers that jobs start."""
    own = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    # In a job, the first Snakemake has set it.
    os.environ.setdefault(_CARRIED_THREADS, json.dumps(own))


def default_threads(threads: int) -> None:
    """Set the number of threads for libraries, before they are loaded; 0 sets nothing.

    Values that the user has set stay. If OMP_NUM_THREADS is one of them, it is for all
    libraries. The limit is set only if the user has set nothing, since it would limit
    the user's values, too.
    """
    if not threads or "OMP_NUM_THREADS" in os.environ:
        return
    if not any(name in os.environ for name in _THREAD_VARIABLES):
        os.environ.setdefault(_THREAD_LIMIT, str(threads))
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))


def starting_directory(home: str, run_dir: Path) -> Path:
    """Return where a process of a task starts: in `home`, if that exists.

    A node may not have the directory of the pipeline file. Then there are no files to
    which relative paths could lead, and the process starts in the run directory.
    """
    return Path(home) if Path(home).is_dir() else run_dir


def launch_environment() -> dict[str, str]:
    """Return this process's environment, with this interpreter as `python`.

    A setup command may activate another interpreter, which then comes first in PATH.
    Numbers of threads are the user's own again, not Snakemake's.
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
    """Return an environment in which carried variables have their own names again."""
    carried = {
        os.fsdecode(bytes.fromhex(name.removeprefix(_CARRIED))): environment.pop(name)
        for name in list(environment)
        if name.startswith(_CARRIED)
    }
    return carried | environment
