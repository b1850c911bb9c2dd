"""Draw the tasks of a pipeline as a tree, with the resources of each."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from tigerflow.engine.rehearsal import Rehearsal
from tigerflow.pipeline.schema import (
    LocalAsyncTaskSpec,
    LocalTaskSpec,
    SlurmTaskSpec,
    TaskSpec,
)
from tigerflow.pipeline.spec import Pipeline, PipelineTask

_WIDE = 100_000


def draw_tree(
    console: Console, pipeline: Pipeline, rehearsals: Mapping[str, Rehearsal]
) -> None:
    """Print a pipeline's tasks, each below the one it depends on."""
    # The terminal wraps long lines, so that commands can be copied whole.
    console.width = _WIDE
    arrow = "->" if console.options.ascii_only else "→"
    root = Tree(Text(pipeline.path.name, style="bold"), guide_style="dim")
    nodes: dict[str | None, Tree] = {None: root}
    for task in pipeline.tasks:
        lines = _lines(task, arrow, rehearsals.get(task.name))
        parent = nodes[task.spec.depends_on]
        nodes[task.name] = parent.add(Text("\n").join(lines))
    console.print(root)


def _lines(
    task: PipelineTask, arrow: str, rehearsal: Rehearsal | None
) -> Iterator[Text]:
    spec = task.spec
    yield Text.assemble(
        (spec.name, "bold"),
        (f"  {spec.kind.value}", "cyan"),
        f"  {spec.input_ext} {arrow} {spec.output_ext}",
        "" if spec.keep_output else " (not kept)",
        f"  {_capacity(spec)}",
    )
    if summary := task.doc.partition("\n")[0]:
        yield Text(summary, style="dim")
    for key, value in _software(spec):
        yield Text(f"{key}: {value}", style="dim")
    for command in spec.setup_commands:
        yield Text(f"$ {command}", style="dim")
    if rehearsal is not None:
        yield from _submission_lines(rehearsal)


def _software(spec: TaskSpec) -> Iterator[tuple[str, str]]:
    if spec.envmodules:
        yield "envmodules", ", ".join(spec.envmodules)
    if spec.conda is not None:
        yield "conda", spec.conda
    if spec.container is not None:
        yield "container", spec.container


def _capacity(spec: TaskSpec) -> str:
    match spec:
        case LocalTaskSpec(workers=count):
            return "1 at a time" if count == 1 else f"in {count} processes"
        case LocalAsyncTaskSpec(concurrency_limit=count):
            return f"{count} at once"
        case SlurmTaskSpec(max_workers=count, workers_per_job=each):
            shared = f", {each} per job" if each > 1 else ""
            return f"up to {count} worker{'s' if count > 1 else ''}{shared}"
        case _:
            return ""


def _submission_lines(rehearsal: Rehearsal) -> Iterator[Text]:
    """Yield the command that would be used, and what Slurm says about it."""
    if rehearsal.command:
        yield Text(rehearsal.command)
    match rehearsal.is_accepted:
        case True:
            yield Text(f"accepted: {rehearsal.verdict}", style="green")
        case False:
            yield Text(f"refused: {rehearsal.verdict}", style="red")
        case None:
            yield Text(f"unknown: {rehearsal.verdict}", style="yellow")
