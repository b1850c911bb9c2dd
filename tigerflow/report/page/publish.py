"""`tigerflow report --html`: read a run directory, and write its page."""

import os
from pathlib import Path

from tigerflow.errors import MissingLibraryError, PlanError, ReportFileError
from tigerflow.files import readers_of, write_atomic
from tigerflow.report.from_journal import salvage
from tigerflow.report.page.chronicle import Chronicle, Run
from tigerflow.report.reading import find_plan, read_report
from tigerflow.report.run_report import RunReport
from tigerflow.rundir.journal import read
from tigerflow.rundir.layout import JOURNAL
from tigerflow.rundir.plan import Plan


def publish(output_dir: Path, target: Path) -> None:
    """Write the page of a run directory to `target`, which is replaced.

    It is there whole, or as it was.

    Raises:
        NoRunError: the directory is none.
        PlanError: it is one, of which nothing can be shown.
        ReportFileError: the page cannot be written there.
        MissingLibraryError: what draws is not installed.
    """
    if os.path.isdir(target):  # noqa: PTH112 -- a Path raises for a name that is too long
        raise ReportFileError(target, "it is a directory; name a file in it")
    try:
        # Here: only a page needs them, and they take half a second.
        from tigerflow.report.page.render import render_page  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        raise MissingLibraryError(error.name or "", "report", "--html") from error
    report, plan, runs = _read(output_dir)
    page = render_page(report, plan, runs)
    try:
        # It has the params, too.
        write_atomic(target, page, readers_of(report.output_dir / JOURNAL))
    except OSError as error:
        raise ReportFileError(target, error.strerror or str(error)) from error


def _read(output_dir: Path) -> tuple[RunReport, Plan, list[Run]]:
    try:
        plan = find_plan(output_dir)
    except PlanError as problem:
        report, plan = salvage(output_dir, problem)
        chronicle = Chronicle(plan.input_ext)
        for event in read(report.output_dir / JOURNAL):
            chronicle.take(event)
        return report, plan, chronicle.runs
    chronicle = Chronicle(plan.input_ext)
    report = read_report(output_dir, chronicle.take)
    return report, plan, chronicle.runs
