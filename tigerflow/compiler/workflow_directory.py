"""A workflow directory: write it, or check that it is current."""

from pathlib import Path

from tigerflow.compiler.compiled import Workflow, submission_files
from tigerflow.compiler.rules import build_rules
from tigerflow.compiler.texts import (
    is_ours,
)
from tigerflow.errors import (
    StaleWorkflowError,
    WorkflowDirectoryError,
)
from tigerflow.files import (
    ALL_READERS,
    narrow,
    read_regular,
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
    RunLayout,
    worker_file,
)


def write_workers(pipeline: Pipeline, run_dir: Path) -> Path:
    """Write the files with which a task that runs by itself submits its workers.

    Returns:
        The directory of `WORKERS_SNAKEFILE` and `WORKERS_PROFILE`.

    Raises:
        OSError: it cannot be written.
    """
    directory = RunLayout(run_dir).workflow
    files = submission_files(build_rules(pipeline), None, run_dir)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_temporaries(path.parent)
        write_atomic(path, text)
    return directory


def write_workflow(workflow: Workflow) -> list[str]:
    """Write the files that are missing or different, and return their names.

    A crash leaves each file either old or new. The Snakefile is written last.

    Raises:
        WorkflowDirectoryError: a directory cannot be created or written, or a file
            that TigerFlow did not write is in the way.
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
        reason = "cannot be created, because a file is in the way"
        raise WorkflowDirectoryError(place, reason) from error
    except OSError as error:
        place = Path(error.filename or workflow.directory)
        raise WorkflowDirectoryError(place, error.strerror or str(error)) from error
    return changed


def protect(workflow: Workflow) -> None:
    """Hide files with params from users who may not read the pipeline file.

    Snakemake's metadata has params, too, with modes that Snakemake chooses: there, the
    directory is closed.

    Raises:
        OSError: a directory cannot be created.
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
    """Check that the files of a workflow are current.

    Raises:
        StaleWorkflowError: files are missing or different; it names them.
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
            reason = (
                "was not written by `tigerflow compile`; move it, or choose "
                "another --to"
            )
            raise WorkflowDirectoryError(path, reason)


def _directories(workflow: Workflow) -> list[Path]:
    """Return the workflow's directories, then that of the link to the input.

    In this order, a workflow that cannot be written leaves no other directories behind.
    """
    parents = {(workflow.directory / name).parent for name in workflow.files}
    return [*sorted(parents), RunLayout(workflow.output_dir).input_link.parent]


def _link_input(workflow: Workflow) -> None:
    """Point the link `.tigerflow/input` at the input directory.

    So paths in the Snakefile are short and relative, whatever characters the input
    directory has in its name.
    """
    link = RunLayout(workflow.output_dir).input_link
    if link.is_symlink() and link.readlink() == workflow.input_dir:
        return
    if link.exists() and not link.is_symlink():
        raise WorkflowDirectoryError(link, "is in the way; move it elsewhere")
    fresh = link.with_name(temporary_name(link.name))
    fresh.symlink_to(workflow.input_dir)
    fresh.replace(link)


def _write_plan(workflow: Workflow) -> None:
    path = workflow.output_dir / PLAN
    if _text_of(path) != workflow.plan.text:
        write_atomic(path, workflow.plan.text, workflow.readers)


def _old_worker_files(workflow: Workflow) -> list[Path]:
    """Return the worker files of tasks that the pipeline no longer has."""
    tasks = workflow.directory / worker_file("x").parent
    return [
        path
        for path in sorted(tasks.glob("*.json"))
        if str(path.relative_to(workflow.directory)) not in workflow.files
        and is_ours(_text_of(path) or "")
    ]
