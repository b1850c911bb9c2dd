"""`tigerflow run`, `tigerflow watch` and `tigerflow stop`."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.cli._background import detach
from tigerflow.cli._completion import complete_pipeline
from tigerflow.cli._display import Display, display_on_terminal
from tigerflow.cli._errors import report_errors
from tigerflow.cli._output import output_console, print_whole
from tigerflow.cli._profile import WorkersProfile, check_profile
from tigerflow.cli._progress import View
from tigerflow.cli._settings import load_settings
from tigerflow.cli._signs import signs_for
from tigerflow.compiler.compiled import compile_workflow
from tigerflow.compiler.environments import check_environments
from tigerflow.errors import (
    ExitCode,
    ForeignRunError,
    NoRunError,
    OutputDirectoryError,
)
from tigerflow.log import configure, logger
from tigerflow.pipeline.spec import load_pipeline
from tigerflow.rundir.layout import STATE
from tigerflow.rundir.lock import find_running
from tigerflow.rundir.requests import Request, ask
from tigerflow.service.controls import Controls
from tigerflow.service.options import ServiceOptions
from tigerflow.service.service import Service
from tigerflow.service.signals import Start, StopSignals

#: Follows the options in the help of `run` and `watch`.
EXIT_CODES = """\
Exit codes: 0 if all files are done; 1 if files failed, or a task or the pipeline \
could not run; 2 if the command line, the pipeline file or a setting is wrong; 128 + n \
if signal n stopped it (tigerflow stop: 143, Ctrl-C: 130).
"""

PipelineFile = Annotated[
    Path,
    typer.Argument(help="Pipeline file (YAML)", autocompletion=complete_pipeline),
]
InputDir = Annotated[Path, typer.Argument(help="Directory with the input files")]
OutputDir = Annotated[Path, typer.Argument(help="Directory for the results")]
DeleteInput = Annotated[
    bool,
    typer.Option("--delete-input", help="Delete each input file once it is done"),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Retry files that failed before"),
]
RerunChanged = Annotated[
    bool,
    typer.Option(
        "--rerun-changed",
        help="Reprocess files whose task has changed since (code or params)",
    ),
]
DropMetadata = Annotated[
    bool,
    typer.Option(
        "--drop-metadata",
        help="Do not keep Snakemake's metadata: faster, but `snakemake --report` and "
        "`--summary` show less",
    ),
]
Background = Annotated[
    bool,
    typer.Option(
        "--background",
        "-b",
        help="Return once it has started; it then runs without a terminal, until "
        "'tigerflow stop', and logs to OUTPUT_DIR/.tigerflow/run.log",
    ),
]


def run_command(  # noqa: PLR0913 -- one for each option
    pipeline: PipelineFile,
    input_dir: InputDir,
    output_dir: OutputDir,
    idle_timeout: Annotated[
        int,
        typer.Option(min=1, help="Minutes without an unfinished file, then stop"),
    ] = 10,
    *,
    delete_input: DeleteInput = False,
    retry_failed: RetryFailed = False,
    rerun_changed: RerunChanged = False,
    drop_metadata: DropMetadata = False,
    workers_profile: WorkersProfile = None,
    background: Background = False,
) -> None:
    """Process existing and new files, then exit once idle."""
    options = ServiceOptions(
        idle_timeout_s=idle_timeout * 60,
        delete_input=delete_input,
        retry_failed=retry_failed,
        rerun_changed=rerun_changed,
        keep_metadata=not drop_metadata,
    )
    load = partial(_load, pipeline, input_dir, output_dir, options, workers_profile)
    _serve(output_dir, load, background=background)


def watch_command(  # noqa: PLR0913 -- one for each option
    pipeline: PipelineFile,
    input_dir: InputDir,
    output_dir: OutputDir,
    idle_timeout: Annotated[
        int | None,
        typer.Option(min=1, help="Minutes without an unfinished file, then stop"),
    ] = None,
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="Process existing files, then exit"),
    ] = False,
    delete_input: DeleteInput = False,
    retry_failed: RetryFailed = False,
    rerun_changed: RerunChanged = False,
    drop_metadata: DropMetadata = False,
    workers_profile: WorkersProfile = None,
    background: Background = False,
) -> None:
    """Process existing and new files until stopped."""
    options = ServiceOptions(
        idle_timeout_s=None if idle_timeout is None else idle_timeout * 60,
        once=once,
        delete_input=delete_input,
        retry_failed=retry_failed,
        rerun_changed=rerun_changed,
        keep_metadata=not drop_metadata,
    )
    load = partial(_load, pipeline, input_dir, output_dir, options, workers_profile)
    _serve(output_dir, load, background=background)


def stop_command(
    output_dir: Annotated[Path, typer.Argument(help="Directory with the results")],
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Do not wait for files in progress; kill all workers"
        ),
    ] = False,
) -> None:
    """Stop a running service after it finishes the files it is working on."""
    with report_errors():
        state = output_dir / STATE
        # Path.is_dir() would raise for a name that is too long.
        if not os.path.isdir(state):  # noqa: PTH112
            raise NoRunError(output_dir)
        holder = find_running(state)
        if holder is None:
            typer.echo("Pipeline is not running")
            return
        if holder.is_here:
            try:
                os.kill(holder.pid, signal.SIGTERM)
                if force:
                    # Another signal: the same one, sent twice, may arrive only once.
                    os.kill(holder.pid, signal.SIGINT)
            except ProcessLookupError:
                typer.echo("Pipeline is not running")
                return
            except PermissionError as error:
                raise ForeignRunError(holder.pid) from error
            typer.echo(f"Sent SIGTERM to pipeline (pid {holder.pid})")
            return
        try:
            ask(state, Request.STOP_AT_ONCE if force else Request.STOP)
        except OSError as error:
            raise OutputDirectoryError(state, error) from error
        typer.echo(f"Asked pipeline to stop (pid {holder.pid} on {holder.host})")


class _Session:
    """A service on the command line, which signals can stop even while it starts."""

    def __init__(self, display: Display | None, on_up: Callable[[], None]) -> None:
        self._display = display
        self._on_up = on_up
        self._controls: Controls | None = None
        self._is_stopped = False
        self._start = Start()

    def run(self, service: Service) -> int:
        self._start.begin()
        return service.run(self.ready)

    def ready(self, controls: Controls) -> None:
        self._controls = controls
        if self._is_stopped:
            controls.stop()
        if self._display is not None:
            self._display.follow(controls.events, controls.snapshot)
        self._on_up()
        self._start.end()

    def stop(self, number: int) -> None:
        logger.warning("Received signal {}, initiating shutdown", number)
        self._is_stopped = True
        if self._controls is not None:
            self._controls.stop()

    def stop_at_once(self, number: int) -> None:
        logger.warning("Received signal {} again, stopping at once", number)
        self._start.wait()
        if self._controls is not None:
            self._controls.kill()
        if self._display is not None:
            self._display.close()

    def summarize(self, output_dir: Path) -> None:
        """Print what became of all files, where no terminal shows that already."""
        if self._controls is None or _has_terminal():
            return
        console = output_console()
        view = View(console.width, signs_for(console))
        print_whole(console, view.ended(self._controls.snapshot(), output_dir))


def _has_terminal() -> bool:
    """Tell whether standard output is shown where the log is."""
    streams = (sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def _serve(output_dir: Path, load: Callable[[], Service], *, background: bool) -> None:
    on_up = detach() if background else lambda: None
    display = None if background else display_on_terminal(output_dir)
    session = _Session(display, on_up)
    with (
        display or contextlib.nullcontext(),
        StopSignals(session.stop, session.stop_at_once) as signals,
    ):
        configure()
        try:
            with report_errors():
                code = session.run(load())
        finally:
            session.summarize(output_dir)
            if signals.received is not None:
                # Even if an error followed: Ctrl-C reaches the service's helpers, too.
                raise typer.Exit(128 + signals.received)
    raise typer.Exit(code or ExitCode.DONE)


def _load(
    pipeline: Path,
    input_dir: Path,
    output_dir: Path,
    options: ServiceOptions,
    workers_profile: Path | None,
) -> Service:
    settings = load_settings()
    profile = check_profile(workers_profile)
    loaded = load_pipeline(pipeline)
    workflow = compile_workflow(loaded, input_dir, output_dir)
    check_environments(loaded, input_dir, output_dir, workflow.snakefile)
    return Service(loaded, workflow, options, settings, profile)
