"""Read a run directory into one report, whether or not a service runs.

How far each file is, the file system says, as it does for the service itself: so the
work of plain Snakemake is counted like that of the service. The journal adds what files
cannot tell; see `journaled`.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tigerflow import __version__
from tigerflow.errors import PlanError
from tigerflow.naming import is_input_name, is_result_name, snakemake_problem
from tigerflow.report.journaled import Journaled, is_newer, read_journal
from tigerflow.report.run_report import Failure, RunReport, TaskReport
from tigerflow.rundir.events import Event
from tigerflow.rundir.judgement import (
    UNDONE,
    FileState,
    Listed,
    TaskState,
    Times,
    judge,
    list_results,
    times_in,
)
from tigerflow.rundir.layout import INPUT_LINK, JOURNAL, PLAN, STATE
from tigerflow.rundir.live import read_running
from tigerflow.rundir.lock import Holder, find_running
from tigerflow.rundir.plan import Plan, PlannedTask, read_plan


def read_report(
    output_dir: Path, witness: Callable[[Event], None] = lambda _event: None
) -> RunReport:
    """Read a run directory; `witness` sees each event of its journal.

    Raises:
        NoRunError: it is none.
        PlanError: its plan cannot be read; see `salvage`.
    """
    return read_sources(output_dir, witness).report


@dataclass(frozen=True)
class Sources:
    """What is known of a run directory, from which reports are made."""

    #: The directory, absolute.
    place: Path
    plan: Plan
    listed: Listed
    journaled: Journaled
    holder: Holder | None
    notes: tuple[str, ...]

    @property
    def report(self) -> RunReport:
        """All files, by task and state."""
        report = build_report(
            self.place, self.plan, self.listed, self.journaled, self.holder
        )
        return replace(report, notes=self.notes)


def read_sources(output_dir: Path, witness: Callable[[Event], None]) -> Sources:
    """Read a run directory, as `read_report`."""
    plan = find_plan(output_dir)
    place = Path(os.path.abspath(output_dir))  # noqa: PTH100 -- resolve() follows links
    holder = find_running(place / STATE)
    journaled, notes = read_journal(place / JOURNAL, witness, is_written=bool(holder))
    listed = list_files(place, plan)
    return Sources(place, plan, listed, journaled, holder, notes)


def find_plan(output_dir: Path) -> Plan:
    """Return the plan of a run directory, as `read_plan`.

    Raises:
        NoRunError: it is none.
        PlanError: the plan cannot be read; the versions are named when it is newer.
    """
    try:
        return read_plan(output_dir)
    except PlanError as error:
        path = output_dir / JOURNAL
        journaled, _ = read_journal(path, lambda _event: None, is_written=False)
        if not is_newer(journaled.version):
            raise
        reason = (
            f"TigerFlow {journaled.version} wrote it, and this is {__version__}: "
            "update this one"
        )
        raise PlanError(output_dir / PLAN, reason) from error


def list_files(run_dir: Path, plan: Plan) -> Listed:
    """List the input directory and those of the results; one that is gone is empty."""
    inputs = readable_times(run_dir / INPUT_LINK, plan.input_ext, is_input_name)
    return replace(list_results(run_dir, plan, readable_times), inputs=inputs)


def readable_times(
    directory: Path,
    extension: str,
    is_one: Callable[[str, str], bool] = is_result_name,
) -> Times:
    """Return what `times_in` does; a directory that cannot be listed is empty."""
    try:
        return times_in(directory, extension, is_one)
    except OSError:
        return {}


def build_report(
    place: Path,
    plan: Plan,
    listed: Listed,
    journaled: Journaled,
    holder: Holder | None,
) -> RunReport:
    """Join what is known of a run; `place` is its absolute path."""
    in_hand = journaled.in_hand if holder else frozenset()
    sorting = _Sorting(plan, listed, in_hand, journaled.stopped)
    for stem in listed.stems:
        sorting.add(stem)
    live = read_running(place, holder)
    tasks = []
    for task in plan.tasks:
        failed = sorting.stems[task.name, TaskState.FAILED]
        report = TaskReport(
            name=task.name,
            input_ext=plan.input_ext_of(task),
            processed=len(sorting.stems[task.name, TaskState.PROCESSED]),
            staged=len(sorting.stems[task.name, TaskState.STAGED]),
            timings=journaled.timings.get(task.name, {}),
            failures=tuple(as_failure(place, plan, task, listed, s) for s in failed),
            running=tuple(live.get(task.name, ())),
            stopped=journaled.stopped.get(task.name),
        )
        tasks.append(report)
    stems = {stem for by_worker in live.values() for stem in by_worker}
    running = len(stems & sorting.in_hand)
    queued = len(sorting.in_hand) - running
    return RunReport(place, holder, sorting.files, tuple(tasks), running, queued)


class _Sorting:
    """The files of a run, by state."""

    def __init__(
        self,
        plan: Plan,
        listed: Listed,
        in_hand: Collection[str],
        stopped: Iterable[str],
    ) -> None:
        self.files = dict.fromkeys(FileState, 0)
        #: By task and state.
        self.stems: dict[tuple[str, TaskState], list[str]] = defaultdict(list)
        self._plan = plan
        self._listed = listed
        self._in_hand = in_hand
        #: Stems of files that a running service has, with work to do.
        self.in_hand: set[str] = set()
        #: The tasks that can run, and none before them cannot.
        self._able = {task.name for task in plan.tasks} - plan.reach(stopped)

    def add(self, stem: str) -> None:
        if snakemake_problem(stem) is not None:
            self.files[FileState.ERRORED] += 1
            self.stems[self._plan.tasks[0].name, TaskState.FAILED].append(stem)
            return
        since_ns = self._listed.inputs.get(stem, 0)
        found = judge(self._plan, self._listed, stem, since_ns)
        in_hand = stem + self._plan.input_ext in self._in_hand and any(
            found.states[task] in UNDONE for task in self._able
        )
        state = found.file_state(in_hand=in_hand)
        unfinished = state in {FileState.STAGED, FileState.IN_PROGRESS}
        if unfinished and stem not in self._listed.inputs:
            # Its input is gone: nothing will become of it any more.
            return
        self.files[state] += 1
        if in_hand and state is FileState.IN_PROGRESS:
            self.in_hand.add(stem)
        for each in found.states.items():
            self.stems[each].append(stem)


def as_failure(
    place: Path, plan: Plan, task: PlannedTask, listed: Listed, stem: str
) -> Failure:
    """Return where to read why a task failed on a file."""
    origin = stem + plan.input_ext
    problem = snakemake_problem(stem)
    error = place / task.error(stem)
    return Failure(
        stem=stem,
        origin=origin,
        file=stem + plan.input_ext_of(task),
        path=error if problem is None else place / INPUT_LINK / origin,
        problem=problem,
        has_input=stem in listed.inputs,
    )
