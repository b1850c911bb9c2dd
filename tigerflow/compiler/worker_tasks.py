"""A task of a pipeline -> the `WorkerTask` that its worker processes get."""

from pathlib import Path

from tigerflow.compiler.environments import container_words, setup_commands
from tigerflow.compiler.rules import threads_of, workers_of
from tigerflow.pipeline.amounts import parse_time_minutes
from tigerflow.pipeline.schema import LocalAsyncTaskSpec, SlurmTaskSpec
from tigerflow.pipeline.spec import Pipeline, PipelineTask
from tigerflow.tasks.worker_task import WorkerTask


def build_worker_task(
    pipeline: Pipeline, task: PipelineTask, input_dir: Path, run_dir: Path
) -> WorkerTask:
    """Return what the task's workers need to know.

    Args:
        pipeline: the pipeline that the task belongs to.
        task: one of its tasks.
        input_dir: absolute path of the input directory, which containers must see.
        run_dir: absolute path of the run directory.
    """
    spec = task.spec
    directory = pipeline.path.resolve().parent
    slurm = spec if isinstance(spec, SlurmTaskSpec) else None
    container = container_words(task, [run_dir, input_dir, directory])
    return WorkerTask(
        name=spec.name,
        module=task.module,
        directory=str(directory),
        params=task.param_texts,
        setup_commands=setup_commands(spec, run_dir),
        output_ext=spec.output_ext,
        workers=workers_of(spec),
        concurrency_limit=(
            spec.concurrency_limit if isinstance(spec, LocalAsyncTaskSpec) else 1
        ),
        # Libraries in local workers may start as many threads as they like, as in any
        # program.
        threads=threads_of(spec) if slurm else 0,
        container=container or (),
        batch_size=task.batch_size,
        timeout=spec.timeout,
        remote=slurm is not None,
        wall_time=(
            60 * parse_time_minutes(slurm.worker_resources.time) if slurm else None
        ),
        workers_per_job=slurm.workers_per_job if slurm else 1,
    )
