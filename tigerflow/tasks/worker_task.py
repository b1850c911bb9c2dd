"""What the workers of a task are told: all that they need to run it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tigerflow.tasks.params import ParamText


@dataclass(frozen=True)
class WorkerTask:
    """What the workers of a task are told; `tasks/<name>.json` of a workflow has it."""

    name: str
    #: Absolute path of a file or import path, with `:Class`.
    module: str
    #: Directory of the pipeline file; import paths may start there.
    directory: str
    #: By field name: the texts of the pipeline file.
    params: Mapping[str, ParamText]
    setup_commands: Sequence[str]
    output_ext: str
    #: Up to how many worker processes, and how many calls at once in each.
    workers: int
    concurrency_limit: int
    #: Cores of each worker, for the libraries that ask; 0 leaves it to them.
    threads: int
    #: For how many seconds `run` may take; None is for ever.
    timeout: float | None = None
    #: Whether the workers are jobs of a scheduler, on other hosts.
    remote: bool = False
    #: For how many seconds such a job may run.
    wall_time: float | None = None
    #: How many of the workers share one job.
    workers_per_job: int = 1
    #: Options and image of `apptainer exec`, for a task whose workers run in one.
    container: Sequence[str] = ()
    #: Up to how many files there are in one call.
    batch_size: int = 1
    #: Where setup commands and the task start, and relative paths among the params;
    #: None: in `directory`.
    working_dir: str | None = None

    @property
    def home(self) -> str:
        """The directory where setup commands and the task start."""
        return self.working_dir or self.directory
