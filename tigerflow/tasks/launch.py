"""The command line of a process that runs after a task's setup commands. Pure."""

import shlex
from collections.abc import Sequence


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
