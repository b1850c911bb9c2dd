"""Read a run directory for a report: by its plan, or from its journal alone.

`reading` reports by the plan. When that cannot be read, the tasks are those of the last
run in the journal. Their last tries say how far each file is, and the `.err` files say
what failed. What plain Snakemake has done is missing then.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tigerflow.errors import PlanError
from tigerflow.naming import ERROR_EXT
from tigerflow.report.journaled import Journaled, read_journal
from tigerflow.report.reading import Sources, read_sources, readable_times
from tigerflow.report.run_report import RunReport
from tigerflow.rundir.events import Event, FilesStaged, RunStarted
from tigerflow.rundir.judgement import Listed
from tigerflow.rundir.layout import JOURNAL, STATE
from tigerflow.rundir.lock import find_running
from tigerflow.rundir.plan import Plan, PlannedTask


def read_run(
    output_dir: Path, witness: Callable[[Event], None] = lambda _event: None
) -> Sources:
    """Read a run directory by its plan, or else by its journal alone.

    Raises:
        NoRunError: it is none.
        PlanError: neither can be read.
    """
    try:
        return read_sources(output_dir, witness)
    except PlanError as problem:
        return _salvage(output_dir, problem, witness)


def salvage(output_dir: Path, problem: PlanError) -> tuple[RunReport, Plan]:
    """Return the report of a run, with `problem` as its first note, and its tasks.

    Raises:
        PlanError: `problem`, when the journal does not name the tasks.
    """
    sources = _salvage(output_dir, problem, lambda _event: None)
    return sources.report, sources.plan


def _salvage(
    output_dir: Path, problem: PlanError, witness: Callable[[Event], None]
) -> Sources:
    place = Path(os.path.abspath(output_dir))  # noqa: PTH100 -- resolve() follows links
    holder = find_running(place / STATE)
    noted = _Noted()

    def take(event: Event) -> None:
        noted.take(event)
        witness(event)

    journaled, notes = read_journal(place / JOURNAL, take, is_written=bool(holder))
    if not noted.tasks:
        raise problem
    tried = set().union(*journaled.timings.values())
    plan = Plan(_input_ext(noted.names, tried), noted.tasks)
    listed = _list_files(place, plan, noted.names, journaled)
    notes = (f"{problem}.", *notes)
    return Sources(place, plan, listed, journaled, holder, notes)


@dataclass
class _Noted:
    """What a journal says of tasks and of input files."""

    tasks: tuple[PlannedTask, ...] = ()
    names: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        match event:
            case RunStarted(tasks=parents) if parents:
                self.tasks = tuple(
                    # Its extension is known to the plan only.
                    PlannedTask(
                        name,
                        parent if parent in list(parents)[:place] else None,
                        "",
                        keep_output=True,
                    )
                    for place, (name, parent) in enumerate(parents.items())
                )
            case FilesStaged():
                self.names.update(event.files)
            case _:
                pass


def _input_ext(names: Collection[str], stems: Collection[str]) -> str:
    """Return what most names have behind a stem that was tried; "" if none was."""
    found = Counter(
        name[place:]
        for name in names
        for place, letter in enumerate(name)
        if letter == "." and name[:place] in stems
    )
    return found.most_common(1)[0][0] if found else ""


def _list_files(
    place: Path, plan: Plan, names: Collection[str], journaled: Journaled
) -> Listed:
    """Return files as they would be listed, all of one age."""
    return Listed(
        inputs={name.removesuffix(plan.input_ext): 0 for name in names},
        outputs={
            task.name: {
                stem: 0
                for stem, timing in journaled.timings.get(task.name, {}).items()
                if timing.succeeded
            }
            for task in plan.tasks
        },
        errors={
            task.name: readable_times(place / task.errors, ERROR_EXT)
            for task in plan.tasks
        },
    )
