"""`WorkerTask`: all that a worker process needs to know about its task."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tigerflow.tasks.fields import ParamText


@dataclass(frozen=True)
class WorkerTask:
    """A task as its workers get it.

    A compiled workflow has it as JSON in `tasks/<name>.json`. A field is a key there,
    in this order; those with a default may be left out.
    """

    name: str
    #: Absolute path of a file or import path, with `:Class`.
    module: str
    #: Directory of the pipeline file; import paths may start there.
    directory: str
    #: The texts of the pipeline file, by field name.
    params: Mapping[str, ParamText]
    setup_commands: Sequence[str]
    output_ext: str
    #: The most worker processes, and the most concurrent calls in each.
    workers: int
    concurrency_limit: int
    #: Cores of each worker, for libraries that start threads; 0 leaves it to them.
    threads: int
    #: Options and image for `apptainer exec`; empty when no container is used.
    container: Sequence[str] = ()
    #: The most files in one call.
    batch_size: int = 1
    #: Seconds that `run` may take; None means no limit.
    timeout: float | None = None
    #: Whether the workers are a scheduler's jobs, on other hosts.
    remote: bool = False
    #: Seconds that such a job may run.
    wall_time: float | None = None
    #: How many workers share one job.
    workers_per_job: int = 1
    #: Where setup commands and the task start, and where relative paths in params
    #: start; None means `directory`.
    working_dir: str | None = None
    #: Number of the worker that gets this, if several share a log; 0 for no number.
    worker: int = 0

    @property
    def home(self) -> str:
        """The directory where setup commands and the task start."""
        return self.working_dir or self.directory

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of `tasks/<name>.json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the text of `tasks/<name>.json`, without fields at their default."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return json.dumps(given, indent=2) + "\n"

    @classmethod
    def is_json_of_one(cls, text: str) -> bool:
        """Tell whether a text is the JSON of a `WorkerTask`."""
        try:
            value = json.loads(text)
        except ValueError:
            return False
        required = {
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING
        }
        return isinstance(value, dict) and value.keys() >= required
