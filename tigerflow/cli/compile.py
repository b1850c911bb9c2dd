"""`tigerflow compile`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.cli._completion import complete_pipeline
from tigerflow.cli._errors import report_errors
from tigerflow.cli.check import show_tasks
from tigerflow.compiler.compiled import Workflow, compile_workflow
from tigerflow.compiler.texts import SLURM, WORKERS_STAY
from tigerflow.compiler.workflow_directory import check_workflow, write_workflow
from tigerflow.engine.rehearsal import rehearse
from tigerflow.pipeline.spec import PipelineDraft, read_pipeline
from tigerflow.unmatched import unmatched


def compile_command(
    pipeline: Annotated[
        Path,
        typer.Argument(
            metavar="PIPELINE",
            help="Pipeline file (YAML)",
            autocompletion=complete_pipeline,
        ),
    ],
    input_dir: Annotated[
        Path,
        typer.Argument(metavar="INPUT_DIR", help="Directory with the input files"),
    ],
    output_dir: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT_DIR", help="Directory for the results"),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="Directory for the workflow",
            show_default="OUTPUT_DIR/.tigerflow/workflow",
        ),
    ] = None,
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing; check that the existing workflow is current (exit "
            "code 1 if not), and show what would be submitted for Slurm tasks",
        ),
    ] = False,
) -> None:
    """Compile a pipeline into a workflow that plain Snakemake can run."""
    with report_errors():
        draft = read_pipeline(pipeline)
        loaded = draft.finished()
        workflow = compile_workflow(loaded, input_dir, output_dir, to)
        if check and (rehearsals := rehearse(loaded)):
            show_tasks(draft, loaded, rehearsals)
        sentence = unmatched(input_dir, loaded.input_ext)
        for warning in (*_warnings(draft), *([sentence] if sentence else [])):
            typer.echo(f"Warning: {warning}", err=True)
        if check:
            draft.mistakes.raise_any()
            check_workflow(workflow)
            typer.echo(f"{workflow.directory} is current")
            return
        written = write_workflow(workflow)
        typer.echo(_summary(workflow, written))


def _warnings(draft: PipelineDraft) -> list[str]:
    warnings = list(draft.mistakes.warnings)
    if draft.staging.steps:
        warnings.append(
            f"{draft.path}: staging has no effect in plain Snakemake, "
            "which processes all files at once",
        )
    return warnings


def _summary(workflow: Workflow, written: list[str]) -> str:
    names = ", ".join(rule.task for rule in workflow.rules)
    verb = "Compiled" if written else "Already compiled:"
    command = f"snakemake -s {shlex.quote(str(workflow.snakefile))}"
    commands = [command]
    if not all(rule.is_local for rule in workflow.rules):
        directory = workflow.directory / "profiles"
        commands += [
            f"{command} --profile {shlex.quote(str(directory / profile))}"
            for profile in (SLURM, WORKERS_STAY)
        ]
    listed = "".join(f"\n  {each}" for each in commands)
    return f"{verb} {names} to {workflow.directory}\nRun:{listed}"
