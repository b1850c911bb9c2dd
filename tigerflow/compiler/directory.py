"""A workflow directory: write it, or tell whether it is current."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tigerflow.compiler.rules import Rule, build_rules
from tigerflow.compiler.snakefile import render_snakefile, render_workers
from tigerflow.compiler.texts import (
    DEFAULT,
    PROFILES,
    is_ours,
    profile_text,
    shipped_profile,
)
from tigerflow.compiler.worker_tasks import build_worker_task
from tigerflow.errors import (
    DirectoryClashError,
    StaleWorkflowError,
    WorkflowDirectoryError,
    absence,
)
from tigerflow.files import (
    ALL_READERS,
    narrow,
    read_regular,
    readers_of,
    remove_abandoned_temporaries,
    write_atomic,
)
from tigerflow.naming import temporary_name
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.adoption import adopt
from tigerflow.rundir.layout import (
    JOURNAL,
    PLAN,
    RUN_LOG,
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
    """A compiled workflow: where it belongs, and the text of each file in it."""

    directory: Path
    output_dir: Path
    input_dir: Path
    rules: tuple[Rule, ...]
    #: Path below `directory` -> text.
    files: Mapping[str, str]
    #: For the run directory, wherever the workflow itself goes.
    plan: Plan
    #: Who may read what is made of the pipeline file: who may read that.
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
        files |= _worker_files(rules, pipeline.path.name, run_dir)
    for profile in (DEFAULT, *PROFILES):
        files[f"profiles/{profile}/profile.yaml"] = profile_text(
            profile, rules, str(run_dir)
        )
    inside = target.is_relative_to(run_dir)
    # Last: with it, the workflow can be run.
    files["Snakefile"] = render_snakefile(
        rules,
        pipeline_name=pipeline.path.name,
        input_ext=pipeline.input_ext,
        output_dir=str(run_dir),
        workflow_dir=str(target.relative_to(run_dir) if inside else target),
    )
    readers = readers_of(pipeline.path)
    return Workflow(target, run_dir, source, rules, files, pipeline.plan, readers)


def _worker_files(
    rules: tuple[Rule, ...], pipeline_name: str | None, run_dir: Path
) -> dict[str, str]:
    return {
        WORKERS_SNAKEFILE: render_workers(rules, pipeline_name, str(run_dir)),
        f"{WORKERS_PROFILE}/profile.yaml": shipped_profile("workers"),
    }


def write_workers(pipeline: Pipeline, run_dir: Path) -> Path:
    """Write what a task that runs by itself needs to submit its workers.

    Returns:
        The directory of `WORKERS_SNAKEFILE` and `WORKERS_PROFILE`.

    Raises:
        OSError: it cannot be written.
    """
    directory = RunLayout(run_dir).workflow
    files = _worker_files(build_rules(pipeline), None, run_dir)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_temporaries(path.parent)
        write_atomic(path, text)
    return directory


def write_workflow(workflow: Workflow) -> list[str]:
    """Write what differs from what is there; return the names of the files written.

    A crash leaves each file old or new, and the Snakefile is the last.

    Raises:
        WorkflowDirectoryError: a directory cannot be made or written, or has a file
            in the way that TigerFlow did not write.
    """
    try:
        changed = _differing(workflow)
        _refuse_foreign(workflow, changed)
        for directory in _directories(workflow):
            directory.mkdir(parents=True, exist_ok=True)
            remove_abandoned_temporaries(directory)
        protect(workflow)
        _link_input(workflow)
        adopt(workflow.output_dir, workflow.plan)
        _write_plan(workflow)
        for name in changed:
            path = workflow.directory / name
            write_atomic(path, workflow.files[name], workflow.readers)
        for path in _old_worker_files(workflow):
            path.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        place = Path(error.filename or workflow.directory)
        reason = "cannot be made, because a file is in the way"
        raise WorkflowDirectoryError(place, reason) from error
    except OSError as error:
        place = Path(error.filename or workflow.directory)
        raise WorkflowDirectoryError(place, error.strerror or str(error)) from error
    return changed


def protect(workflow: Workflow) -> None:
    """Keep all that has params from those that may not read the pipeline file.

    Snakemake notes params, too; its files have modes that it chooses.

    Raises:
        OSError: a directory cannot be made.
    """
    state = workflow.output_dir / STATE
    directories = [state, state / "logs"]
    if workflow.readers != ALL_READERS:
        directories.append(workflow.output_dir / ".snakemake")
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    files = [workflow.directory / name for name in workflow.files]
    files += [workflow.output_dir / name for name in (PLAN, JOURNAL, RUN_LOG)]
    for path in (*directories, *files, *(state / "logs").iterdir()):
        narrow(path, workflow.readers)


def check_workflow(workflow: Workflow) -> None:
    """Compare with what is there.

    Raises:
        StaleWorkflowError: a file is missing or different; it names them.
    """
    stale = [*_differing(workflow)]
    stale += [
        str(path.relative_to(workflow.directory))
        for path in _old_worker_files(workflow)
    ]
    link = RunLayout(workflow.output_dir).input_link
    if not link.is_symlink() or link.readlink() != workflow.input_dir:
        stale.append(str(link.relative_to(workflow.output_dir)))
    if _text_of(workflow.output_dir / PLAN) != workflow.plan.text:
        stale.append(str(PLAN))
    if stale:
        raise StaleWorkflowError(workflow.directory, stale)


def _absolute(path: Path) -> Path:
    # Not resolved: a path through a link is the one that the user knows.
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() follows links


#: More bytes than any file of a workflow has.
TEXT_LIMIT = 1 << 26


def _text_of(path: Path) -> str | None:
    try:
        return read_regular(path, TEXT_LIMIT)[0]
    except OSError:
        return None


def _differing(workflow: Workflow) -> list[str]:
    return [
        name
        for name, text in workflow.files.items()
        if _text_of(workflow.directory / name) != text
    ]


def _refuse_foreign(workflow: Workflow, names: list[str]) -> None:
    if workflow.directory.is_relative_to(workflow.output_dir / STATE):
        return
    for name in names:
        path = workflow.directory / name
        if path.is_file() and not is_ours(_text_of(path) or ""):
            reason = "is not from `tigerflow compile`; move it, or choose another --to"
            raise WorkflowDirectoryError(path, reason)


def _directories(workflow: Workflow) -> list[Path]:
    """Return the workflow's directories, then that of the link to the input.

    In this order, a workflow that cannot be written leaves nothing elsewhere.
    """
    parents = {(workflow.directory / name).parent for name in workflow.files}
    return [*sorted(parents), RunLayout(workflow.output_dir).input_link.parent]


def _check_directories(pipeline: Pipeline, source: Path, run_dir: Path) -> None:
    # Not those of Path: they raise for a name that is too long.
    is_dir, exists = os.path.isdir, os.path.exists
    if not is_dir(source):
        raise WorkflowDirectoryError(source, f"the input directory {absence(source)}")
    if exists(run_dir) and not is_dir(run_dir):
        raise WorkflowDirectoryError(run_dir, "the output directory is a file")
    if source.is_relative_to(run_dir / STATE):
        reason = "is TigerFlow's own; give the directory of the input files"
        raise WorkflowDirectoryError(source, reason)
    for task in pipeline.tasks:
        kept = result_directory(task.name, keep_output=task.spec.keep_output)
        for results in (run_dir / kept, run_dir / error_directory(task.name)):
            if is_dir(results) and results.samefile(source):
                msg = (
                    f"The results of task {task.name!r} would go into the input "
                    f"directory {str(source)!r}; give another output directory"
                )
                raise DirectoryClashError(msg)


def _link_input(workflow: Workflow) -> None:
    """Point `.tigerflow/input` at the input directory.

    So the Snakefile holds short relative paths, whatever characters the real one has.
    """
    link = RunLayout(workflow.output_dir).input_link
    if link.is_symlink() and link.readlink() == workflow.input_dir:
        return
    if link.exists() and not link.is_symlink():
        raise WorkflowDirectoryError(link, "it is in the way; move it elsewhere")
    fresh = link.with_name(temporary_name(link.name))
    fresh.symlink_to(workflow.input_dir)
    fresh.replace(link)


def _write_plan(workflow: Workflow) -> None:
    path = workflow.output_dir / PLAN
    if _text_of(path) != workflow.plan.text:
        write_atomic(path, workflow.plan.text, workflow.readers)


def _old_worker_files(workflow: Workflow) -> list[Path]:
    """Return what workers of tasks read that the pipeline no longer has."""
    tasks = workflow.directory / worker_file("x").parent
    return [
        path
        for path in sorted(tasks.glob("*.json"))
        if str(path.relative_to(workflow.directory)) not in workflow.files
        and is_ours(_text_of(path) or "")
    ]
