"""`tigerflow check`."""

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

#: What follows the options in the help.
LOOKS = """\
The environment modules and the conda environment of a task are loaded as for a \
worker, and the program that enters its container is looked up. Of setup commands, the \
programs are looked up, and only those are run that change nothing but their shell \
(module, source, conda activate, export); all of them when a module cannot be loaded \
without. For a Slurm task, Snakemake makes up the submission of a worker, and Slurm \
says whether it would take it (sbatch --test-only). Exit codes: 0 nothing speaks \
against a run, or only a warning, as when Slurm does not answer; 1 the submission \
could not be made up; 2 something does.
"""


def check_command(
    pipeline: PipelineFile,
    workers_profile: WorkersProfile = None,
) -> None:
    """Check all that 'run' would, and draw the tasks; submit and write nothing."""
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
    """Draw a pipeline's tasks; note which jobs would not be taken, or may not be."""
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
