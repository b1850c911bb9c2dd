"""The command line of a task, the same for all kinds: `python module.py …`."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from tigerflow.cli._errors import report_errors
from tigerflow.cli._help import with_plain_help
from tigerflow.cli._output import flush_output
from tigerflow.cli._profile import check_profile
from tigerflow.cli._settings import load_settings
from tigerflow.cli._task_options import all_options, epilog_of, kind_options
from tigerflow.errors import ExitCode
from tigerflow.files import remove_abandoned_temporaries, remove_temporaries_of
from tigerflow.log import configure, logger
from tigerflow.naming import check_task_name
from tigerflow.service.directories import Directories
from tigerflow.service.signals import StopSignals
from tigerflow.service.task_directory import DirectorySource
from tigerflow.settings import Settings
from tigerflow.tasks.base import Task, TaskKind, check_definition
from tigerflow.tasks.execution import Interrupted
from tigerflow.tasks.fields import ParamText, build_command
from tigerflow.tasks.file_loop import FileLoop
from tigerflow.tasks.job_source import Lifecycle
from tigerflow.tasks.loader import refuse_hiding
from tigerflow.tasks.param_values import record_texts
from tigerflow.tasks.places import Places
from tigerflow.tasks.remarks import remarks
from tigerflow.tasks.tracebacks import user_frames


class _Progress:
    """One line at the foot of a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        self._write(f"\r\x1b[K{text}\r")

    def clear(self) -> None:
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        # The terminal may have been closed.
        if self._shown:
            with contextlib.suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()


class _LoggedLifecycle:
    """Logs the steps of a task, and lets a signal interrupt only its `setup`."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def setting_up(self) -> None:
        logger.info("Setting up task")
        self._signals.interrupting = self._signals.received is None

    def set_up(self) -> None:
        self._signals.interrupting = False
        logger.info("Task setup complete")

    def shutting_down(self) -> None:
        logger.info("Shutting down task")


def run_task_command(task: type[Task]) -> NoReturn:
    """Parse the command line of `task`, process its files, and exit.

    Exit codes: 0 if no file failed under `--once`; 1 if files failed or the task cannot
    run; 2 for a wrong command line; 128 + n if signal n stopped it.
    """
    configure()
    with report_errors():
        fields, texts = task.fields(), dict[str, ParamText]()
        epilog = epilog_of(task)
        command = build_command(all_options(task), _entry(task, texts), epilog=epilog)
        record_texts(command, fields, texts)
    with_plain_help(command).main(standalone_mode=True)
    sys.exit(ExitCode.DONE)


def _entry(task: type[Task], texts: Mapping[str, ParamText]) -> Callable[..., None]:
    """Return the function behind the command; `texts` gets the params as given."""
    kind_names = {option.name for option in kind_options(task)}
    param_names = [field.name for field in task.fields()]

    def run(**values: Any) -> None:
        """Run the task as a CLI application."""
        params = {name: values.pop(name) for name in param_names}
        options = {name: values.pop(name) for name in kind_names}
        once, name = values.pop("once"), values.pop("task_name")
        with report_errors():
            check_task_name(name)
            directories = Directories(**values)
            directories.check()
            check_definition(task)
            refuse_hiding(Path(task.get_module_path()))
            directories = directories.absolute()
            settings = load_settings()
            if task.kind is TaskKind.SLURM:
                for remark in remarks(Path(task.get_module_path())):
                    logger.warning("{}", remark)
                server: _Server = _SlurmServer(task, name, directories, options, texts)
            else:
                places = Places(Path.cwd(), directories.output_dir)
                params = {key: places.locate(each) for key, each in params.items()}
                limit = options.get("concurrency_limit", 1)
                size = options.get("batch_size", 1)
                server = FileLoop(task, name, params, limit, batch_size=size)
            remove_abandoned_temporaries(directories.output_dir)
        # Outside of `report_errors`: exceptions of the task's code have tracebacks.
        code = _serve(server, directories, settings, task=name, once=once)
        flush_output()
        sys.exit(code)

    return run


class _Server(Protocol):
    """Processes a source's files until it has no more."""

    def serve(self, source: DirectorySource, lifecycle: Lifecycle) -> None: ...

    def kill(self) -> None: ...


class _SlurmServer:
    """Processes files on compute nodes; errors of that become a message."""

    def __init__(
        self,
        task: type[Task],
        name: str,
        directories: Directories,
        options: Mapping[str, Any],
        texts: Mapping[str, ParamText],
    ) -> None:
        # Slow to import; tasks of other kinds need not wait for it.
        from tigerflow.pipeline.alone import pipeline_of_one  # noqa: PLC0415
        from tigerflow.service.slurm_task import SlurmTaskService  # noqa: PLC0415

        profile = check_profile(options["workers_profile"])
        extensions = (directories.input_ext, directories.output_ext)
        pipeline = pipeline_of_one(task, name, extensions, options, texts)
        settings = Settings.from_environment()
        self._server = SlurmTaskService(
            pipeline, directories.output_dir, settings, profile
        )

    def serve(self, source: DirectorySource, lifecycle: Lifecycle) -> None:
        with report_errors():
            self._server.serve(source, lifecycle)

    def kill(self) -> None:
        self._server.kill()


def _serve(
    server: _Server,
    directories: Directories,
    settings: Settings,
    *,
    task: str,
    once: bool,
) -> int:
    progress = _Progress()
    source = DirectorySource(
        directories,
        settings.task_poll_interval,
        settings.worker_grace,
        task=task,
        once=once,
        progress=progress,
    )

    def stop(number: int) -> None:
        logger.warning("Received signal {}, initiating shutdown", number)
        source.stop()

    def stop_at_once(number: int) -> None:
        logger.warning("Received signal {} again, stopping at once", number)
        server.kill()
        remove_temporaries_of(directories.output_dir, os.getpid())

    with source.inbox, StopSignals(stop, stop_at_once) as signals:
        number = _serve_until_stopped(server, source, signals, progress)
        logger.info("Task shutdown complete")
        if number is not None:
            return 128 + number
    failed = source.failed or source.failed_earlier or source.error
    return ExitCode.FAILED if failed else ExitCode.DONE


def _serve_until_stopped(
    server: _Server,
    source: DirectorySource,
    signals: StopSignals,
    progress: _Progress,
) -> int | None:
    """Return the number of the signal that stopped it, or None."""
    try:
        server.serve(source, _LoggedLifecycle(signals))
    except Interrupted as interrupt:
        # There is nothing to tear down yet.
        logger.info("Stopped during setup")
        return int(interrupt.args[0])
    except Exception as error:  # noqa: BLE001 -- the task's setup or teardown may raise anything
        # The author of the task needs its frames, but not ours above them.
        trace = user_frames(error.__traceback__) or error.__traceback__
        traceback.print_exception(type(error), error, trace)
        sys.exit(ExitCode.FAILED)
    finally:
        progress.clear()
    return signals.received
