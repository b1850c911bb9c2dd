"""A pipeline -> its workflow: the text of every file. Nothing is written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tigerflow.compiler.rules import Rule, build_rules
from tigerflow.compiler.snakefile import render_snakefile, render_workers
from tigerflow.compiler.texts import (
    DEFAULT,
    PROFILES,
    profile_text,
    shipped_profile,
)
from tigerflow.compiler.worker_tasks import build_worker_task
from tigerflow.errors import (
    DirectoryClashError,
    WorkflowDirectoryError,
    absence,
)
from tigerflow.files import (
    ALL_READERS,
    readers_of,
)
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.layout import (
    STATE,
    WORKERS_PROFILE,
    WORKERS_SNAKEFILE,
    RunLayout,
    error_directory,
    result_directory,
    worker_file,
)
from tigerflow.rundir.plan import Plan


@dataclass(frozen=True)
class Workflow:
    """A compiled workflow: its directories, and the text of each file."""

    directory: Path
    output_dir: Path
    input_dir: Path
    rules: tuple[Rule, ...]
    #: Path below `directory` -> text.
    files: Mapping[str, str]
    #: Goes to the run directory, wherever the workflow itself is written.
    plan: Plan
    #: Mode bits of those who may read the pipeline file, and so the workflow.
    readers: int = ALL_READERS

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
    """Compile a pipeline, without writing anything.

    Args:
        pipeline: a valid pipeline.
        input_dir: directory with its input files.
        output_dir: the run directory.
        directory: the workflow directory; by default one in the run directory.

    Raises:
        WorkflowDirectoryError: the input is no directory, or the output is a file.
        DirectoryClashError: results of a task would go into the input directory.
    """
    run_dir = _absolute(output_dir)
    source = _absolute(input_dir)
    target = _absolute(directory) if directory else RunLayout(run_dir).workflow
    _check_directories(pipeline, source, run_dir)
    rules = build_rules(pipeline)
    files = {
        str(worker_file(task.name)): build_worker_task(
            pipeline, task, source, run_dir
        ).to_json()
        for task in pipeline.tasks
    }
    if any(rule.worker_job for rule in rules):
        files |= submission_files(rules, pipeline.path.name, run_dir)
    for profile in (DEFAULT, *PROFILES):
        files[f"profiles/{profile}/profile.yaml"] = profile_text(
            profile, rules, str(run_dir)
        )
    inside = target.is_relative_to(run_dir)
    # It comes last, since it makes the workflow runnable.
    files["Snakefile"] = render_snakefile(
        rules,
        pipeline_name=pipeline.path.name,
        input_ext=pipeline.input_ext,
        output_dir=str(run_dir),
        workflow_dir=str(target.relative_to(run_dir) if inside else target),
    )
    readers = readers_of(pipeline.path)
    return Workflow(target, run_dir, source, rules, files, pipeline.plan, readers)


def submission_files(
    rules: tuple[Rule, ...], pipeline_name: str | None, run_dir: Path
) -> dict[str, str]:
    """Return the files by which workers are submitted: path -> text.

    A task that runs by itself has no pipeline name.
    """
    return {
        WORKERS_SNAKEFILE: render_workers(rules, pipeline_name, str(run_dir)),
        f"{WORKERS_PROFILE}/profile.yaml": shipped_profile("workers"),
    }


def _absolute(path: Path) -> Path:
    # Not resolved: the user knows the path with its links.
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() follows links


def _check_directories(pipeline: Pipeline, source: Path, run_dir: Path) -> None:
    # The methods of Path would raise for a name that is too long.
    is_dir, exists = os.path.isdir, os.path.exists
    if not is_dir(source):
        raise WorkflowDirectoryError(source, f"the input directory {absence(source)}")
    if exists(run_dir) and not is_dir(run_dir):
        raise WorkflowDirectoryError(run_dir, "the output directory is a file")
    if source.is_relative_to(run_dir / STATE):
        reason = "belongs to TigerFlow; name the directory with the input files"
        raise WorkflowDirectoryError(source, reason)
    for task in pipeline.tasks:
        kept = result_directory(task.name, keep_output=task.spec.keep_output)
        for results in (run_dir / kept, run_dir / error_directory(task.name)):
            if is_dir(results) and results.samefile(source):
                msg = (
                    f"The results of task {task.name!r} would go into the input "
                    f"directory {str(source)!r}; choose another output directory"
                )
                raise DirectoryClashError(msg)
