"""`TIGERFLOW_*` environment variables, read when a command needs them."""

import os
from dataclasses import dataclass, fields
from typing import Self

from tigerflow.errors import ExitCode, TigerflowError


class SettingError(TigerflowError):
    """A `TIGERFLOW_*` variable cannot be used."""

    exit_code = ExitCode.USAGE

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(
            f"{variable}={value!r} is not a whole number greater than 0",
        )


@dataclass(frozen=True)
class Settings:
    """Whole seconds greater than 0, each from `TIGERFLOW_<FIELD NAME>`.

    Those that end in `_ms` are milliseconds.
    """

    #: How often an input directory is scanned in full.
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
    def from_environment(cls) -> Self:
        """Read the settings; a variable that is not set keeps its default.

        Raises:
            SettingError: a variable is not a whole number greater than 0.
        """
        values = {}
        for field in fields(cls):
            variable = f"TIGERFLOW_{field.name.upper()}"
            text = os.environ.get(variable)
            if text is None:
                continue
            if not text.isascii() or not text.isdigit() or int(text) == 0:
                raise SettingError(variable, text)
            values[field.name] = int(text)
        return cls(**values)
