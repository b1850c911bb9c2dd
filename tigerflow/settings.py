"""`TIGERFLOW_*` environment variables, read when a command needs them.

They may also stand in a file: `.env` in the current directory, or the one that
TIGERFLOW_ENV_FILE names. The environment wins; other variables in the file are left
alone.
"""

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from tigerflow.errors import ExitCode, TigerflowError

_PREFIX = "TIGERFLOW_"

#: Names a file to take the place of `.env`.
ENV_FILE = f"{_PREFIX}ENV_FILE"

_SHOW_ALL = "'tigerflow settings' shows them all"

#: Settings of the Dask-based TigerFlow that have no effect here, and why.
_FORMER = {
    "TIGERFLOW_SLURM_TASK_CLIENT_HOURS": "a Slurm task has no client job",
    "TIGERFLOW_SLURM_TASK_SCALE_INTERVAL": "workers start as soon as files wait",
    "TIGERFLOW_SLURM_TASK_SCALE_WAIT_COUNT": (
        "TIGERFLOW_WORKER_IDLE_TIMEOUT says when idle workers end"
    ),
}


class SettingError(TigerflowError):
    """A `TIGERFLOW_*` variable cannot be used."""

    exit_code = ExitCode.USAGE

    def __init__(
        self, variable: str, value: str, expected: str, file: str | None = None
    ) -> None:
        where = f"{file}: " if file else ""
        super().__init__(f"{where}{variable}={value!r} is not {expected}")


class EnvFileError(TigerflowError):
    """The file that TIGERFLOW_ENV_FILE names cannot be read."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{ENV_FILE}={str(path)!r} cannot be read: {reason}")


@dataclass(frozen=True)
class Settings:
    """Whole seconds greater than 0, each from `TIGERFLOW_<FIELD NAME>`.

    Those that end in `_ms` are milliseconds, those in `_attempts` are counted; a bool
    is 1 or 0.
    """

    #: How often the input directory of a pipeline is scanned in full.
    pipeline_poll_interval: int = 3
    #: The same, for a task that runs by itself.
    task_poll_interval: int = 3
    #: How long a worker without a file stays, while Snakemake continues without it.
    worker_idle_timeout: int = 300
    #: How long a worker may take to tear down before it is killed.
    worker_grace: int = 30
    #: How long a worker on another host may take from its first sign of life to the end
    #: of its setup.
    slurm_task_worker_startup_timeout: int = 600
    #: How long before its wall time is over a worker gives up its files.
    worker_wall_time_grace: int = 60
    #: After how long without a sign of life a worker on another host, and for that the
    #: service, is taken for gone.
    worker_lost_timeout: int = 60
    #: How often a file is tried whose workers die; with 1 it is not tried again.
    worker_attempts: int = 3
    #: Milliseconds between two looks into a mailbox.
    mailbox_poll_ms: int = 100
    #: Whether each result and `.err` is on disk before it gets its name (1), so that a
    #: power cut leaves none of them empty or in part; 0 is faster for files that take
    #: milliseconds.
    fsync: bool = True

    @classmethod
    def load(cls) -> Self:
        """Read the settings for a command, and take those of the file.

        They go into this process's environment, so that workers have them too.

        Raises:
            SettingError: a variable has a value that it cannot have.
            EnvFileError: the file that is named cannot be read.
        """
        return cls._read(_take_env_file())

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; a variable that is not set keeps its default.

        Raises:
            SettingError: a variable has a value that it cannot have.
        """
        return cls._read({})

    def no_time_problem(self, wall_time_s: float | None) -> str | None:
        """Return why workers with this wall time have none for a file, if so."""
        grace_s = self.worker_wall_time_grace
        if wall_time_s is None or wall_time_s > grace_s:
            return None
        return (
            f"its workers have {wall_time_s:.0f} s of wall time, and end {grace_s} s "
            "(TIGERFLOW_WORKER_WALL_TIME_GRACE) before its end; "
            "give them more time, or less grace"
        )

    @classmethod
    def _read(cls, files: Mapping[str, str]) -> Self:
        """Read the settings; `files` has the file of each variable that is from one."""
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = _variable(each.name)
            text = os.environ.get(variable)
            if text is not None:
                values[each.name] = _value(each, text, files.get(variable))
        return cls(**values)


@dataclass(frozen=True)
class ShownSetting:
    """One setting as it is now."""

    variable: str
    value: str
    unit: str
    #: "default", "environment", or the path of the file.
    origin: str
    #: Why the value cannot be used, or None.
    mistake: str | None


def show_settings() -> list[ShownSetting]:
    """Return all settings as `Settings.load` finds them, wrong ones too.

    Raises:
        EnvFileError: the file that is named cannot be read.
    """
    files = _take_env_file()
    return [_show(each, files) for each in fields(Settings)]


def _show(setting: Field[Any], files: Mapping[str, str]) -> ShownSetting:
    variable = _variable(setting.name)
    text = os.environ.get(variable)
    mistake = None
    if text is None:
        text, origin = f"{setting.default:d}", "default"
    else:
        file = files.get(variable)
        origin = file or "environment"
        try:
            _value(setting, text, file)
        except SettingError as error:
            mistake = str(error)
    return ShownSetting(variable, text, unit_of(setting), origin, mistake)


def unit_of(setting: Field[Any]) -> str:
    """Return the unit of a setting; empty for one that is on or off."""
    if isinstance(setting.default, bool):
        return ""
    last = setting.name.rpartition("_")[2]
    return last if last in {"ms", "attempts"} else "s"


def stray_variables() -> Iterator[str]:
    """Yield a sentence on each `TIGERFLOW_*` variable that has no effect.

    After `Settings.load`, those of the file are among them.
    """
    known = [_variable(each.name) for each in fields(Settings)]
    for name in sorted(os.environ):
        if name in _FORMER:
            yield f"{name} has no effect: {_FORMER[name]}"
        elif name.upper().startswith(_PREFIX) and name not in {*known, ENV_FILE}:
            # Without what all have in common, which would make any two alike.
            words = [each.removeprefix(_PREFIX) for each in known]
            near = get_close_matches(name.upper().removeprefix(_PREFIX), words, n=1)
            meant = f"did you mean {_PREFIX}{near[0]}?" if near else _SHOW_ALL
            yield f"{name} is not a setting of TigerFlow; {meant}"


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"


def _value(setting: Field[Any], text: str, file: str | None) -> int | bool:
    if isinstance(setting.default, bool):
        if text in {"0", "1"}:
            return text == "1"
        expected = "0 or 1"
    elif text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    else:
        expected = "a whole number greater than 0"
    raise SettingError(_variable(setting.name), text, expected, file)


def _take_env_file() -> Mapping[str, str]:
    """Set what only the file has; return the file of each variable set."""
    named = os.environ.get(ENV_FILE)
    path = Path(named or ".env")
    if not (named or path.is_file()):
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 -- most runs have no such file

    try:
        values = dotenv_values(stream=io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            # Somebody else's `.env`, perhaps.
            return {}
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise EnvFileError(path, reason or str(error)) from error
    taken = {
        name: value
        for name, value in values.items()
        if name.startswith(_PREFIX) and value is not None and name not in os.environ
    }
    os.environ.update(taken)
    return dict.fromkeys(taken, named or ".env")
