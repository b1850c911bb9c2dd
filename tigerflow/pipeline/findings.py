"""What is found out of a valid pipeline's tasks, told where they stand in its file."""

from tigerflow.pipeline.document import Place, read_document
from tigerflow.pipeline.mistakes import Mistakes
from tigerflow.pipeline.spec import Pipeline


class Findings:
    """Mistakes and warnings about the tasks of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Start without any.

        Raises:
            PipelineError: the file is no longer what it was.
        """
        document = read_document(pipeline.path)
        self._mistakes = Mistakes(document)
        names = [task["name"] for task in document.data["tasks"]]
        self._indices = {name: index for index, name in enumerate(names)}

    def add(self, task: str, place: Place, sentence: str, *, is_sure: bool) -> None:
        """Note a mistake, or a warning of what may be none."""
        note = self._mistakes.add if is_sure else self._mistakes.warn
        note(("tasks", self._indices[task], *place), sentence)

    @property
    def warnings(self) -> tuple[str, ...]:
        """`file:line: place: sentence` for each."""
        return self._mistakes.warnings

    def raise_any(self) -> None:
        """Raise the mistakes, if there are any.

        Raises:
            PipelineError: with `file:line: place: sentence` for each, in file order.
        """
        self._mistakes.raise_any()
