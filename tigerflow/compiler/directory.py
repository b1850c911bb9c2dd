"""A workflow directory: write it, or tell whether it is current."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import json


from tigerflow._assets import asset
from tigerflow.compiler.rules import Rule, build_rules, threads_of
from tigerflow.compiler.snakefile import render_limits, render_snakefile
from tigerflow.errors import (
    DirectoryClashError,
    StaleWorkflowError,
    WorkflowDirectoryError,
)
from tigerflow.files import write_atomic
from tigerflow.layout import RunLayout, error_directory, worker_file
from tigerflow.spec import (
    LocalAsyncTaskSpec,
    Pipeline,
    PipelineTask,
    SlurmTaskSpec,
)

PROFILES = ("local", "slurm")


@dataclass(frozen=True)
class Workflow:
    """A compiled workflow: where it belongs, and the text of each file in it."""

    directory: Path
    output_dir: Path
    input_dir: Path
    rules: tuple[Rule, ...]
    #: Path below `directory` -> text.
    files: Mapping[str, str]

    @property
    def snakefile(self) -> Path:
        """The file to give to `snakemake -s`."""
        return self.directory / "Snakefile"


def compile_workflow(
    pipeline: Pipeline,
    input_dir: Path,
    output_dir: Path,
    directory: Path | None = None,
) -> Workflow:
    """Compile a pipeline; nothing is written yet.

    Args:
        pipeline: a valid pipeline.
        input_dir: where its input files are.
        output_dir: the run directory.
        directory: where the workflow goes; by default into the run directory.

    Raises:
        WorkflowDirectoryError: the input is no directory, or the output is a file.
        DirectoryClashError: a task's results would land among the inputs.
    """
    # Not resolved: a path through a link is the one that the user knows.
    run_dir = Path(os.path.abspath(output_dir))  # noqa: PTH100 -- resolve() follows links
    layout = RunLayout(run_dir)
    target = Path(os.path.abspath(directory)) if directory else layout.workflow  # noqa: PTH100
    rules = build_rules(pipeline)
    _check_directories(pipeline, input_dir, run_dir)
    seen_from_run = (
        str(target.relative_to(run_dir))
        if target.is_relative_to(run_dir)
        else str(target)
    )
    snakefile = render_snakefile(
        rules,
        pipeline_name=pipeline.path.name,
        input_ext=pipeline.input_ext,
        output_dir=str(run_dir),
        workflow_dir=seen_from_run,
    )
    files = {
        str(worker_file(t.name)): _worker_text(pipeline, t) for t in pipeline.tasks
    }
    for profile in PROFILES:
        files[f"profiles/{profile}/profile.yaml"] = _profile_text(profile, rules)
    # Last: with it, the workflow can be run.
    files["Snakefile"] = snakefile
    absolute_input = Path(os.path.abspath(input_dir))  # noqa: PTH100
    return Workflow(target, run_dir, absolute_input, rules, files)


def write_workflow(workflow: Workflow) -> list[str]:
    """Write what differs from what is there; return the names of the files written.

    A crash leaves each file old or new, and the Snakefile is the last.

    Raises:
        WorkflowDirectoryError: a directory cannot be made or written.
    """
    try:
        _link_input(workflow)
        changed = _differing(workflow)
        for name in changed:
            path = workflow.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, workflow.files[name])
        _remove_old_worker_files(workflow)
    except OSError as error:
        place = Path(error.filename or workflow.directory)
        raise WorkflowDirectoryError(place, error.strerror or str(error)) from error
    return changed


def check_workflow(workflow: Workflow) -> None:
    """Compare with what is there.

    Raises:
        StaleWorkflowError: a file is missing or different; it names them.
    """
    changed = _differing(workflow)
    link = RunLayout(workflow.output_dir).input_link
    if not link.is_symlink() or link.readlink() != workflow.input_dir:
        changed.append(str(link.relative_to(workflow.output_dir)))
    if changed:
        raise StaleWorkflowError(workflow.directory, changed)


def _differing(workflow: Workflow) -> list[str]:
    def current(name: str) -> str | None:
        try:
            return (workflow.directory / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    return [name for name, text in workflow.files.items() if current(name) != text]


def _check_directories(pipeline: Pipeline, input_dir: Path, run_dir: Path) -> None:
    if not input_dir.is_dir():
        reason = "is not a directory" if input_dir.exists() else "does not exist"
        raise WorkflowDirectoryError(input_dir, f"the input directory {reason}")
    if run_dir.exists() and not run_dir.is_dir():
        raise WorkflowDirectoryError(run_dir, "the output directory is a file")
    for task in pipeline.tasks:
        results = run_dir / error_directory(task.name)
        if results.is_dir() and results.samefile(input_dir):
            msg = (
                f"The results of task {task.name!r} would go into the input directory "
                f"{str(input_dir)!r}; give another output directory"
            )
            raise DirectoryClashError(msg)


def _link_input(workflow: Workflow) -> None:
    """Point `.tigerflow/input` at the input directory.

    So the Snakefile holds short relative paths, whatever characters the real one has.
    """
    link = RunLayout(workflow.output_dir).input_link
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() == workflow.input_dir:
        return
    if link.exists() and not link.is_symlink():
        raise WorkflowDirectoryError(link, "it is in the way; move it elsewhere")
    fresh = link.with_name(f".input.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(workflow.input_dir)
    fresh.replace(link)


def _remove_old_worker_files(workflow: Workflow) -> None:
    tasks = workflow.directory / worker_file("x").parent
    for path in tasks.glob("*.json"):
        if str(path.relative_to(workflow.directory)) not in workflow.files:
            path.unlink()


def _profile_text(profile: str, rules: tuple[Rule, ...]) -> str:
    text = asset(f"profiles/{profile}/profile.yaml").read_text(encoding="utf-8")
    limits = "".join(f"  {name}: {n}\n" for name, n in render_limits(rules).items())
    return (
        f"{text}\n# Files in flight at once, a rule: a local task has one worker, an async\n"
        f"# one its concurrency_limit, a Slurm one its max_workers.\nresources:\n{limits}"
    )


def _worker_text(pipeline: Pipeline, task: PipelineTask) -> str:
    """Return what the task's workers are told, as JSON; see `WorkerTask`."""
    spec = task.spec
    workers = spec.max_workers if isinstance(spec, SlurmTaskSpec) else 1
    limit = spec.concurrency_limit if isinstance(spec, LocalAsyncTaskSpec) else 1
    told = {
        "name": spec.name,
        "module": task.module,
        "directory": str(pipeline.path.resolve().parent),
        "params": task.param_texts,
        "setup_commands": spec.setup_commands,
        "output_ext": spec.output_ext,
        "workers": workers,
        "concurrency_limit": limit,
        "threads": threads_of(spec),
    }
    return json.dumps(told, indent=2) + "\n"
