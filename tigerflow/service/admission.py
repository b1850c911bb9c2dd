"""Which arrivals are to be processed, found out in the inbox's thread.

At the start the directories say what is finished: by a service that crashed, or by
plain Snakemake. The journal of earlier runs adds what they cannot tell.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tigerflow.log import logger
from tigerflow.naming import files_word
from tigerflow.rundir.history import History
from tigerflow.rundir.judgement import Judgement, Look, Status
from tigerflow.service.file_results import Results
from tigerflow.service.inbox import Arrival
from tigerflow.service.ledger import Found, Ledger
from tigerflow.service.options import ServiceOptions


@dataclass(frozen=True)
class Admitted:
    """What a batch of arrivals comes to."""

    #: Files to be processed, each with the tasks that an earlier run has done for it.
    fresh: Sequence[tuple[Arrival, tuple[str, ...]]]
    #: Files that earlier runs have settled, each once.
    found: Sequence[Found]


class Admission:
    """Admits files that are new, changed, or not finished.

    `wanted` and `admit` are for the inbox's thread, the other methods for the loop's.
    """

    def __init__(
        self,
        ledger: Ledger,
        results: Results,
        options: ServiceOptions,
        read_history: Callable[[], History],
    ) -> None:
        """Decide by what `ledger` knows, `results` show and the history has."""
        self._ledger = ledger
        self._results = results
        self._options = options
        self._read_history = read_history
        self._history = History()
        #: While the files that existed at the start are looked at.
        self._listed: Look | None = None
        self._found: list[Found] = []
        #: By name: what an earlier run has done of files that are still to be finished.
        self._begun: dict[str, tuple[str, ...]] = {}
        #: By task: stems that it processed before it changed.
        self._outdated: dict[str, set[str]] = defaultdict(set)

    def begin(self) -> None:
        """Read the history and list the results, for the first look at all files."""
        self._history = self._read_history()
        self._listed = self._results.listed()

    def end_start(self) -> None:
        """Note that all files that existed at the start are known."""
        self._listed = None

    def wanted(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Leave out files that are in progress, settled, or finished by an earlier run.

        The inbox asks at each look: nothing is decided for a file that still arrives.
        """
        for arrival in self._ledger.unknown(arrivals):
            listed = self._listed
            if listed is None or self._has_changed(arrival):
                # It may still be arriving: see `admit`.
                yield arrival
            elif not self._is_settled(arrival, self._results.judge(arrival, listed)):
                yield arrival

    def admit(self, arrivals: Iterable[Arrival]) -> Admitted:
        """Decide on files that have arrived: those that come again as before stay out.

        Results of another content go, also when their dates are later than the file's:
        copies keep dates. This must come before the journal has the new signature.
        """
        fresh = [
            (each, self._begun.pop(each.name, ()))
            for each in arrivals
            if not self._is_unchanged(each)
        ]
        found, self._found = self._found, []
        return Admitted(fresh, found)

    def _is_unchanged(self, arrival: Arrival) -> bool:
        has_changed = self._has_changed(arrival)
        if not has_changed and not self._results.are_older(arrival):
            return False
        if not (self._results.are_of(arrival) and self._results.redate(arrival)):
            # Where all is older than the file, Snakemake could see nothing to do.
            self._results.discard(self._results.stem(arrival))
            return False
        is_settled = self._is_settled(arrival, self._results.judge(arrival))
        self.record([arrival])
        return is_settled

    def _is_settled(self, arrival: Arrival, found: Judgement) -> bool:
        """Note how far a file is; tell whether it is not to be processed."""
        is_outdated = self._is_outdated(arrival)
        if is_outdated or self._is_unfinished(found):
            self._begun[arrival.name] = () if is_outdated else found.done
            return False
        self._found.append(Found(arrival, found, not self.is_proven(arrival)))
        return True

    def record(self, arrivals: Iterable[Arrival]) -> None:
        """Note of which content the results of files are, or will be."""
        taken = self._history.taken
        taken.update((each.name, each.signature[1:]) for each in arrivals)

    def _has_changed(self, arrival: Arrival) -> bool:
        """Tell whether the file was last processed with another signature."""
        before = self._history.taken.get(arrival.name)
        return before is not None and before != arrival.signature[1:]

    def is_proven(self, arrival: Arrival) -> bool:
        """Tell whether an earlier run had this content."""
        return self._history.taken.get(arrival.name) == arrival.signature[1:]

    def is_retried(self, found: Judgement) -> bool:
        """Tell whether a file is to be retried although it has failed."""
        return found.status is Status.FAILED and self._options.retry_failed

    def take_outdated(self, stem: str) -> list[str]:
        """Return the tasks that are to process a file again; once."""
        tasks = self._history.outdated_tasks(stem)
        self._history.forget(stem)
        return tasks

    def report_outdated(self) -> None:
        """Log how many files tasks processed before they changed."""
        again = "they are processed again"
        hint = "use --rerun-changed to process them again"
        for task, stems in sorted(self._outdated.items()):
            logger.warning(
                "[{}] has changed since it processed {} {}: {}",
                task,
                len(stems),
                files_word(len(stems)),
                again if self._options.rerun_changed else hint,
            )

    def _is_unfinished(self, found: Judgement) -> bool:
        to_delete = self._options.delete_input and found.status is Status.DONE
        is_undone = found.status is Status.UNDONE
        return is_undone or to_delete or self.is_retried(found)

    def _is_outdated(self, arrival: Arrival) -> bool:
        """Tell whether a task that has changed is to process the file again."""
        stem = self._results.stem(arrival)
        tasks = self._history.outdated_tasks(stem)
        for task in tasks:
            self._outdated[task].add(stem)
        return bool(tasks) and self._options.rerun_changed
