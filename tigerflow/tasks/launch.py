"""The command line and environment of a process that runs after setup commands."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def setup_script(commands: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs `program` after the setup commands.

    All run in one bash, so that an environment which one activates holds for the next;
    the first that fails ends it, and is named on standard error.
    """
    if not commands:
        return list(program)
    steps = []
    for command in commands:
        words = shlex.quote(f"setup command failed: {command}")
        report = f"code=$?; printf '%s (exit code %s)\\n' {words} \"$code\" >&2"
        # The command is on lines of its own: it may end in a comment.
        steps.append(f'{{\n{command}\n}} || {{ {report}; exit "$code"; }}')
    return ["bash", "-c", "\n".join([*steps, f"exec {shlex.join(program)}"])]


def launch_environment() -> dict[str, str]:
    """Return this process's environment, in which `python` is this interpreter.

    Until a setup command activates another, whose place in PATH is before it.
    """
    ours = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": os.pathsep.join([ours, path])}
