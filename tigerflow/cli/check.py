"""`tigerflow check`: what would keep a pipeline from running, before it runs.

The mistakes of the file are found by `pipeline.spec`, what may keep workers from
starting by `pipeline.doubts`, and what Slurm says of the jobs by `engine.rehearsal`.
"""

from collections.abc import Mapping

import typer
from rich.console import Console

from tigerflow.cli._errors import report_errors
from tigerflow.cli._profile import WorkersProfile, check_profile
from tigerflow.cli._tree import draw_tree
from tigerflow.cli.run import PipelineFile
from tigerflow.engine.rehearsal import Rehearsal, rehearse
from tigerflow.pipeline.doubts import path_doubts, task_doubts
from tigerflow.pipeline.spec import Pipeline, PipelineDraft, read_pipeline
from tigerflow.settings import Settings, stray_variables

#: Follows the options in the help.
EXPLANATION = """\
Environment modules and conda environments are loaded as for a worker. Programs that \
start containers, and those of setup commands, are looked up. Setup commands run only \
if they change nothing but their shell (module, source, conda activate, export), or if \
the task's module cannot be imported without them. For a Slurm task, Snakemake \
prepares the submission of a worker, and Slurm says whether it would accept it (sbatch \
--test-only). Exit codes: 0 if the pipeline can run, perhaps with warnings, as when \
Slurm does not answer; 1 if the submission could not be prepared; 2 if there are \
mistakes.
"""


def check_command(
    pipeline: PipelineFile,
    workers_profile: WorkersProfile = None,
) -> None:
    """Check a pipeline and show its tasks; write and submit nothing."""
    with report_errors():
        Settings.load()
        profile = check_profile(workers_profile)
        draft = read_pipeline(pipeline)
        loaded = None if draft.mistakes else draft.finished()
        for place, task in draft.tasks.items():
            doubts = [*task_doubts(task.spec, pipeline), *path_doubts(task, pipeline)]
            for key, sentence, is_sure in doubts:
                draft.mistakes.note((*place, *key), sentence, is_sure=is_sure)
        if loaded is not None:
            show_tasks(draft, loaded, rehearse(loaded, profile))
        for warning in (*stray_variables(), *draft.mistakes.warnings):
            typer.echo(f"Warning: {warning}", err=True)
        draft.mistakes.raise_any()
        count = len(draft.tasks)
        tasks = f"{count} task{'s' if count > 1 else ''}"
        typer.echo(f"{pipeline}: no problems found ({tasks})")


def show_tasks(
    draft: PipelineDraft, pipeline: Pipeline, rehearsals: Mapping[str, Rehearsal]
) -> None:
    """Draw a pipeline's tasks, and note jobs that are or may be refused."""
    draw_tree(Console(highlight=False), pipeline, rehearsals)
    for place, task in draft.tasks.items():
        rehearsal = rehearsals.get(task.name)
        if rehearsal is None or rehearsal.is_accepted:
            continue
        what = "its jobs would be refused"
        if rehearsal.is_accepted is None:
            what = "cannot tell whether its jobs would be accepted"
        draft.mistakes.note(
            (*place, "worker_resources"),
            f"{what}: {rehearsal.verdict}",
            is_sure=rehearsal.is_accepted is False,
        )
