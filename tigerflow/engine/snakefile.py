"""What Snakefiles call while Snakemake reads and runs them: see `tigerflow.workflow`.

One module, long as it is: every Snakemake that runs a compiled workflow loads it,
and each function is one that a Snakefile calls, with what only it needs.
"""

import atexit
import contextlib
import functools
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tigerflow.engine.internals import Internal, check_snakemake, missing
from tigerflow.engine.slurm_plugin import adapt_slurm_plugin
from tigerflow.errors import ExitCode, PipelineError, TigerflowError, did_you_mean
from tigerflow.naming import (
    NAMED_AT_MOST,
    is_input_name,
    link_problem,
    printable,
    snakemake_problem,
    stem_of,
)
from tigerflow.rundir.layout import STATE
from tigerflow.tasks.shell.launch import carry_functions, carry_threads
from tigerflow.unmatched import unmatched
from tigerflow.workers import client

#: Set in a process that makes given targets only: it need not know the other files.
targets_are_given = False

#: Keys of the configuration of `workflow/Snakefile`; its schema says more.
CONFIG = ("pipeline", "input_dir", "output_dir")

#: What a key has whose value was forgotten.
NOTHING: tuple[object, ...] = (None, "", [], {})

#: The one that starts no process for a job of ours.
_EXECUTOR = "tigerflow.engine.executor"

#: Where the workflow is whose `RUN` the rules call, as seen from the run directory.
workflow_directory: str | None = None

#: Directives of a rule that plugins interpret, in a Snakemake with such plugins.
_SOFTWARE = ("conda", "container", "envmodules")
_INTERFACE = "snakemake_interface_software_deployment_plugins"
_PLUGIN = "snakemake_software_deployment_plugin_{}"

#: Jobs in a container cannot reach a worker.
_CONTAINERS = frozenset({"apptainer", "container", "singularity", "udocker"})

#: Connections to a host, as long as this process lives.
_kept: list[socket.socket] = []


def run_command(workflow: Any, workflow_dir: str) -> str:
    """Return the shell words that run one file; task, input and output follow.

    The interpreter is the one that reads the Snakefile, so that the same line works in
    a job on another node. `-I -S` leaves out what the client does not need: it starts
    once a file. `$PPID` is Snakemake, whose end ends the workers.
    """
    global workflow_directory  # noqa: PLW0603 -- as `RUN` is one of the Snakefile
    _check_snakemake(workflow)
    if Internal.MAIN_SNAKEFILE.is_known and not workflow.modifier.is_main_snakefile():
        # Snakemake would not find RUN there, nor call what stops the workers.
        _say("cannot be a module of another workflow; include its Snakefile there")
        sys.exit(ExitCode.USAGE)
    carry_functions()
    carry_threads()
    adapt_slurm_plugin()
    _isolate_jobs()
    if _is_in_remote_job(workflow):
        _lead_job()
    _leave_out_software(workflow)
    workflow_directory = workflow_dir
    words = [sys.executable, "-I", "-S", client.__file__, workflow_dir]
    return f"{shlex.join(words)} {os.environ.get(client.JOB, '$PPID')}"


def _check_snakemake(workflow: Any) -> None:
    try:
        check_snakemake()
    except TigerflowError as error:
        # Snakemake would print a traceback of this file.
        _say(str(error))
        sys.exit(error.exit_code)
    if not targets_are_given and not _is_in_remote_job(workflow):
        for sentence in missing():
            _say(sentence)


def _is_in_remote_job(workflow: Any) -> bool:
    return Internal.IN_REMOTE_JOB.is_known and bool(workflow.remote_exec)


def _leave_out_software(workflow: Any) -> None:
    """Ignore directives without their plugin, for which Snakemake would fail each job.

    Workers have their task's software by themselves.
    """
    if find_spec(_INTERFACE) is None:
        return
    for name in _SOFTWARE:
        if find_spec(_PLUGIN.format(name)) is None:
            setattr(workflow, name, partial(_ignore, name))


def _ignore(name: str, *_values: object) -> Callable[[Any], Any]:
    if not targets_are_given:
        _say_ignored(name)
    return lambda rule: rule


@functools.cache
def _say_ignored(name: str) -> None:
    plugin = _PLUGIN.format(name).replace("_", "-")
    _say(f"Snakemake ignores `{name}` of its rules: {plugin} is not installed")


@functools.cache
def _isolate_jobs() -> None:
    """Have a scheduler's jobs of ours take no module from the run directory.

    They run `python -m snakemake` there, and any file may be named as a module is.
    """
    if not Internal.JOB_COMMANDS.is_known:
        return
    # In a process that reads a Snakefile, it is imported already.
    from snakemake_interface_executor_plugins.executors.real import (  # noqa: PLC0415
        RealExecutor,
    )

    format_command = RealExecutor.format_job_exec

    def format_isolated(executor: Any, job: Any) -> str:
        command: str = format_command(executor, job)
        jobs = job.jobs if job.is_group() else [job]
        if not any("{RUN} " in (each.rule.shellcmd or "") for each in jobs):
            return command
        start = f"{executor.get_python_executable()} -m snakemake "
        return command.replace(start, start.replace(" -m", " -P -m", 1))

    RealExecutor.format_job_exec = format_isolated


def _lead_job() -> None:
    """Have workers for as long as the scheduler's job lasts that this process is in.

    The first Snakemake of a job starts others, one after the other, as steps. What a
    step leaves behind is killed: its workers would have no teardown, and the next step
    would set up its own. So all find those of the first, which waits for their end.
    """
    if client.JOB in os.environ:
        return
    os.environ[client.JOB] = str(os.getpid())
    # Without a host, the first client starts one, or says why not.
    with contextlib.suppress(client.HostError):
        atexit.register(_leave_job, client.attend())


def _leave_job(connection: socket.socket) -> None:
    stop_workers()
    connection.close()


def workers_command() -> str:
    """Return the shell words of a job that runs workers; its mailboxes follow."""
    return shlex.join([sys.executable, "-P", "-m", "tigerflow.workers.process.job"])


def find_stems(directory: str, extension: str) -> list[str]:
    """Return the input files' stems, sorted; name those Snakemake cannot carry."""
    if targets_are_given:
        return []
    stems, skipped = [], []
    for name, problem in _inputs(directory, extension):
        if problem is None:
            stems.append(stem_of(name, extension))
        else:
            skipped.append(f"skipping {printable(name)}: {problem}")
    for sentence in sorted(skipped)[:NAMED_AT_MOST]:
        _say(sentence)
    if len(skipped) > NAMED_AT_MOST:
        _say(f"skipping {len(skipped) - NAMED_AT_MOST} more files like these")
    # Where the link leads to.
    place = Path(os.path.realpath(directory))
    if reason := unmatched(place, extension):
        _say(reason)
    return sorted(stems)


def _inputs(directory: str, extension: str) -> Iterator[tuple[str, str | None]]:
    """Yield the names of input files, with what keeps Snakemake from each."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if is_input_name(entry.name, extension):
                    yield from _input(entry, extension)
    except OSError as error:
        place = os.path.realpath(directory)
        _say(f"cannot read the input directory {place!r}: {error.strerror}")
        # Snakemake would print a traceback of this file.
        sys.exit(ExitCode.USAGE)


def _input(entry: os.DirEntry[str], extension: str) -> Iterator[tuple[str, str | None]]:
    try:
        if not entry.is_file():
            return
    except OSError as error:
        yield entry.name, link_problem(error) or error.strerror
        return
    problem = snakemake_problem(stem_of(entry.name, extension))
    yield entry.name, f"{problem}; rename it" if problem else None


def limit_files(workflow: Any, **limits: int) -> None:
    """Bound the files in flight of each rule, unless `--resources` says otherwise.

    Without a profile too: files that only wait for their task's single worker would
    hold the cores that other rules could use.
    """
    if not Internal.LIMITS.is_known:
        return
    for name, limit in limits.items():
        if name not in workflow.global_resources:
            workflow.register_resource(name, limit)


def allow_local_jobs(workflow: Any, jobs: int) -> None:
    """Let `jobs` more jobs that need no core run at once on this host.

    Snakemake's local executor has as many threads as cores, and five more. Without
    them, the files of an async task in flight were bounded by that, not by its limit.
    """
    pool = getattr(_local_executor(workflow), "pool", None)
    if pool is None or not hasattr(pool, "_max_workers"):
        _say("cannot raise the number of local jobs; async tasks may run fewer files")
        return
    pool._max_workers += jobs  # noqa: SLF001 -- read at each submission


def keep_apart(workflow: Any) -> None:
    """Keep what `--sdm` has jobs run in away from workers, which see to it themselves.

    The host of the workers starts here, not in the software of the first job's rule. A
    job in a container would reach no worker.
    """
    methods = _deployment_methods(workflow.deployment_settings)
    if not methods or type(_local_executor(workflow)).__module__ == _EXECUTOR:
        return
    if methods & _CONTAINERS:
        _say("leave out --sdm apptainer: workers run in their containers by themselves")
        sys.exit(ExitCode.USAGE)
    # Without a host, the first client starts one, or says why not.
    with contextlib.suppress(client.HostError):
        _kept.append(client.attend())


def _local_executor(workflow: Any) -> Any:
    """Return what runs local jobs; None where Snakemake has it elsewhere."""
    # No public way.
    for name in ("_local_executor", "_executor"):
        if executor := getattr(workflow.scheduler, name, None):
            return executor
    return None


def _deployment_methods(settings: Any) -> set[str]:
    """Return what `--sdm` names, in small letters.

    As members of an enumeration, or, where plugins provide them, as their names.
    """
    default = getattr(settings, "deployment_method", ())
    methods = getattr(settings, "deployment_methods", default)
    return {str(getattr(each, "name", each)).lower() for each in methods}


def refuse_beside_service() -> None:
    """End before the first job if a service is at work in the run directory.

    Its host would refuse each of the files, one by one.
    """
    from tigerflow.rundir.lock import find_running  # noqa: PLC0415 -- once a run, if it has jobs

    holder = find_running(STATE)
    if holder is not None:
        _say(f"{client.BESIDE} (pid {holder.pid} on {holder.host})")
        sys.exit(ExitCode.FAILED)


def stop_workers() -> None:
    """Stop the workers of the run in the current directory, and wait for teardown."""
    try:
        problems = client.stop()
    except KeyboardInterrupt:
        problems = ["not waiting for teardown; the workers end by themselves"]
    for problem in problems:
        _say(problem)


def compile_and_find(config: Mapping[str, Any]) -> str:
    """Compile the pipeline that the config names; return the Snakefile's path."""
    from tigerflow.compiler.compiled import compile_workflow  # noqa: PLC0415 -- only this way of use needs it
    from tigerflow.compiler.workflow_directory import write_workflow  # noqa: PLC0415 -- only this way of use needs it
    from tigerflow.pipeline.spec import load_pipeline  # noqa: PLC0415

    try:
        if problems := list(_config_problems(config)):
            raise PipelineError(problems)
        path, input_dir, output_dir = (Path(str(config[key])) for key in CONFIG)
        pipeline = load_pipeline(path)
        for warning in pipeline.warnings:
            _say(warning)
        workflow = compile_workflow(pipeline, input_dir, output_dir)
        write_workflow(workflow)
    except TigerflowError as error:
        # Snakemake would print a traceback of this file.
        _say(str(error))
        sys.exit(error.exit_code)
    return str(workflow.snakefile)


def _config_problems(config: Mapping[str, Any]) -> Iterator[str]:
    for key in config:
        if key not in CONFIG:
            hint = did_you_mean(str(key), CONFIG)
            yield f"the configuration has no key {str(key)!r}{hint}"
    missing = [key for key in CONFIG if config.get(key) in NOTHING]
    if missing:
        words = " ".join(f"{key}=…" for key in missing)
        yield f"give --config {words}"


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"tigerflow: {line}", file=sys.stderr)  # noqa: T201 -- Snakemake's log is a terminal's
