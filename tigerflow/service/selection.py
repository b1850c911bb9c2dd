"""The staging steps of a pipeline, applied to the files that wait."""

from pathlib import Path

from tigerflow.errors import StagingError
from tigerflow.log import logger
from tigerflow.pipeline.staging import Staging, StagingContext
from tigerflow.service.inbox import Arrival
from tigerflow.service.ledger import Counts
from tigerflow.tasks.children import TaskCall


class Selection:
    """Chooses which of the waiting files are staged."""

    def __init__(self, staging: Staging, input_dir: Path, output_dir: Path) -> None:
        """Choose by `staging`, whose steps get the two directories."""
        self._staging = staging
        self._input_dir = input_dir
        self._output_dir = output_dir
        self._last_problem = ""

    def select(self, waiting: list[Arrival], counts: Counts) -> list[Arrival]:
        """Return the files to stage now; none while a step fails, which is logged."""
        if not self._staging.steps:
            return waiting
        by_path = {self._input_dir / arrival.name: arrival for arrival in waiting}
        context = StagingContext(
            waiting=counts.waiting,
            staged=counts.staged,
            completed=counts.done,
            failed=counts.failed,
            input_dir=self._input_dir,
            output_dir=self._output_dir,
        )
        try:
            # A callable step is the user's code, which may fork.
            with TaskCall():
                chosen = self._staging.select(sorted(by_path), context)
        except StagingError as error:
            if str(error) != self._last_problem:
                logger.warning("{}", error)
            self._last_problem = str(error)
            return []
        self._last_problem = ""
        return [by_path[path] for path in chosen]
