"""Setup commands, as far as they can be checked without a job for them."""

import os
import re
import subprocess

# What bash begins a message with: its name, the `-c`, and the line in our script.
_SPEAKER = re.compile(r"^.*?: line \d+: ", re.MULTILINE)


def check_syntax(command: str) -> str:
    """Return a setup command as it is, if bash can read it; nothing is executed.

    One that is not complete, such as an open quote, would swallow those after it.

    Raises:
        ValueError: bash cannot; with its own words.
    """
    if "\0" in command:
        message = f"{command!r} has a null character, which no command can have"
        raise ValueError(message)
    # As it will be run, see `setup_script`.
    words = ["bash", "-O", "extglob", "-n", "-c", f"{{\n{command}\n}}"]
    environment = os.environ | {"LC_ALL": "C"}
    try:
        bash = subprocess.run(words, capture_output=True, env=environment, check=False)
    except OSError:
        # Without a bash nothing is known of it.
        return command
    if bash.returncode != 0:
        _, *reasons = _SPEAKER.split(bash.stderr.decode(errors="replace"))
        reason = reasons[0].strip() if reasons else "it is not complete"
        message = f"bash cannot read {command!r}: {reason}"
        raise ValueError(message)
    return command
