"""A `Pipeline` -> the rules of a Snakemake workflow. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tigerflow.pipeline.amounts import parse_gpus, parse_memory_mb
from tigerflow.pipeline.resources import slurm_resources
from tigerflow.pipeline.schema import (
    LocalAsyncTaskSpec,
    LocalTaskSpec,
    SlurmTaskSpec,
    TaskSpec,
)
from tigerflow.pipeline.spec import Pipeline, PipelineTask
from tigerflow.pipeline.tree import rule_name
from tigerflow.rundir.layout import INPUT_LINK, result_directory
from tigerflow.tasks.base import TaskKind


@dataclass(frozen=True)
class Rule:
    """The rule of one task."""

    name: str
    task: str
    doc: str
    input: str
    output: str
    #: Whether an output is removed when every task that depends on it is done.
    is_temp: bool
    #: Whether its outputs are inputs of rule `all`.
    is_target: bool
    #: Whether its jobs run on the host where Snakemake runs.
    is_local: bool
    #: The most files in flight.
    limit: int
    #: The most files in one call.
    batch_size: int
    params: Mapping[str, Any]
    threads: int
    resources: Mapping[str, int | str]
    #: Software, as in Snakemake's directives of the same names.
    envmodules: tuple[str, ...]
    conda: str | None
    container: str | None
    #: The job in which workers run; None for workers that are no jobs.
    worker_job: "WorkerJob | None" = None


@dataclass(frozen=True)
class WorkerJob:
    """The needs of a job in which one worker runs, or several workers run."""

    threads: int
    resources: Mapping[str, int | str]


def build_rules(pipeline: Pipeline) -> tuple[Rule, ...]:
    """Return a rule for each task, in the order of the tasks."""
    by_name = {task.name: task.spec for task in pipeline.tasks}
    targets = pipeline.plan.targets
    return tuple(
        _build_rule(task, by_name, is_target=task.name in targets)
        for task in pipeline.tasks
    )


def limit_name(rule: str) -> str:
    """Return the name of the resource that limits a rule's files in flight."""
    return f"{rule}_files"


def _build_rule(
    task: PipelineTask,
    by_name: Mapping[str, TaskSpec],
    *,
    is_target: bool,
) -> Rule:
    spec = task.spec
    name = rule_name(spec.name)
    source = _output(by_name[spec.depends_on]) if spec.depends_on else None
    return Rule(
        name=name,
        task=spec.name,
        doc=task.doc.partition("\n\n")[0].replace("\n", " "),
        input=source or f"{INPUT_LINK}/{{stem}}{spec.input_ext}",
        output=_output(spec),
        # A leaf's output is the only sign that its file is done: it stays.
        is_temp=not is_target,
        is_target=is_target,
        is_local=spec.kind is not TaskKind.SLURM,
        limit=_limit(task),
        batch_size=task.batch_size,
        params=spec.params,
        threads=_job_threads(task),
        resources={limit_name(name): 1, **_slurm_resources(spec)},
        envmodules=spec.envmodules,
        conda=spec.conda,
        container=spec.container,
        worker_job=_worker_job(spec),
    )


def has_software(rule: Rule) -> bool:
    """Tell whether Snakemake could run a rule's jobs in their own environment."""
    return bool(rule.envmodules or rule.conda or rule.container)


def _worker_job(spec: TaskSpec) -> WorkerJob | None:
    if not isinstance(spec, SlurmTaskSpec):
        return None
    count = min(spec.workers_per_job, spec.max_workers)
    return WorkerJob(count * spec.worker_resources.cpus, _slurm_resources(spec, count))


def _output(spec: TaskSpec) -> str:
    directory = result_directory(spec.name, keep_output=spec.keep_output)
    return f"{directory}/{{stem}}{spec.output_ext}"


def _limit(task: PipelineTask) -> int:
    spec = task.spec
    calls = workers_of(spec)
    if isinstance(spec, LocalAsyncTaskSpec):
        calls = spec.concurrency_limit
    if task.batch_size == 1 or spec.kind is TaskKind.SLURM:
        return calls
    # One batch runs while the next one fills.
    return 2 * task.batch_size * calls


def workers_of(spec: TaskSpec) -> int:
    """Return the most worker processes of a task."""
    match spec:
        case LocalTaskSpec(workers=workers):
            return workers
        case SlurmTaskSpec(max_workers=workers):
            return workers
        case _:
            return 1


def _job_threads(task: PipelineTask) -> int:
    """Return the cores of one file's job."""
    # Many such jobs share one call, and only wait for it.
    is_shared = task.batch_size > 1 and task.spec.kind is TaskKind.LOCAL
    return 0 if is_shared else threads_of(task.spec)


def threads_of(spec: TaskSpec) -> int:
    """Return the cores of one of the task's workers."""
    match spec:
        case LocalAsyncTaskSpec():
            # Its jobs wait for an event loop that mostly waits itself.
            return 0
        case SlurmTaskSpec(worker_resources=resources):
            return resources.cpus
        case _:
            return 1


def _slurm_resources(spec: TaskSpec, workers: int = 1) -> Mapping[str, int | str]:
    """Return the resources of several workers of a task together."""
    if not isinstance(spec, SlurmTaskSpec):
        return {}
    worker = spec.worker_resources
    memory = worker.memory
    model, gpus = parse_gpus(worker.gpus or 0)
    return slurm_resources(
        workers * worker.cpus,
        None if memory is None else workers * parse_memory_mb(memory),
        worker.time,
        f"{model}:{workers * gpus}" if model else workers * gpus,
        worker.sbatch_options,
    )
