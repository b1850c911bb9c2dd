"""`TIGERFLOW_*` environment variables, read when a command needs them.

They may also stand in a file: `.env` in the current directory, or the one that
TIGERFLOW_ENV_FILE names. The environment wins; other variables in the file are left
alone.
"""

import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from tigerflow.errors import ExitCode, TigerflowError

_PREFIX = "TIGERFLOW_"

#: Names a file to take the place of `.env`.
ENV_FILE = f"{_PREFIX}ENV_FILE"


class SettingError(TigerflowError):
    """A `TIGERFLOW_*` variable cannot be used."""

    exit_code = ExitCode.USAGE

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(
            f"{variable}={value!r} is not a whole number greater than 0",
        )


class EnvFileError(TigerflowError):
    """The file that TIGERFLOW_ENV_FILE names cannot be read."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{ENV_FILE}={str(path)!r} cannot be read: {reason}")


@dataclass(frozen=True)
class Settings:
    """Whole seconds greater than 0, each from `TIGERFLOW_<FIELD NAME>`.

    Those that end in `_ms` are milliseconds.
    """

    #: How often the input directory of a pipeline is scanned in full.
    pipeline_poll_interval: int = 3
    #: The same, for a task that runs by itself.
    task_poll_interval: int = 3
    #: How long a worker without a file stays, when Snakemake goes on without it.
    worker_idle_timeout: int = 300
    #: How long a worker may take to tear down before it is killed.
    worker_grace: int = 30
    #: How long a worker on another host may take from its first sign of life to the end
    #: of its setup.
    slurm_task_worker_startup_timeout: int = 600
    #: How long before its wall time is over a worker gives up what it has in hand.
    worker_wall_time_grace: int = 60
    #: After how long without a sign of life a worker on another host, and for that the
    #: service, is taken for gone.
    worker_lost_timeout: int = 60
    #: Milliseconds between two looks into a mailbox.
    mailbox_poll_ms: int = 100

    @classmethod
    def load(cls) -> Self:
        """Read the settings for a command, and take those of the file.

        They go into this process's environment, so that workers have them too.

        Raises:
            SettingError: a variable is not a whole number greater than 0.
            EnvFileError: the file that is named cannot be read.
        """
        _take_env_file()
        return cls.from_environment()

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; a variable that is not set keeps its default.

        Raises:
            SettingError: a variable is not a whole number greater than 0.
        """
        values = {}
        for field in fields(cls):
            variable = f"{_PREFIX}{field.name.upper()}"
            text = os.environ.get(variable)
            if text is None:
                continue
            if not text.isascii() or not text.isdigit() or int(text) == 0:
                raise SettingError(variable, text)
            values[field.name] = int(text)
        return cls(**values)


def _take_env_file() -> None:
    named = os.environ.get(ENV_FILE)
    path = Path(named or ".env")
    if not (named or path.is_file()):
        return
    from dotenv import dotenv_values  # noqa: PLC0415 -- most runs have no such file

    try:
        values = dotenv_values(stream=io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            # Somebody else's `.env`, perhaps.
            return
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise EnvFileError(path, reason or str(error)) from error
    for name, value in values.items():
        if name.startswith(_PREFIX) and value is not None:
            os.environ.setdefault(name, value)
