"""`tigerflow report --html`: read a run directory, and write its page."""

import os
from pathlib import Path

from tigerflow.errors import MissingLibraryError, ReportFileError
from tigerflow.files import write_atomic
from tigerflow.plan import read_plan
from tigerflow.report import read_report
from tigerflow.reporting.chronicle import Chronicle


def publish(output_dir: Path, target: Path) -> None:
    """Write the page of a run directory to `target`, which is replaced.

    It is there whole, or as it was.

    Raises:
        NoRunError: the directory is none.
        ReportFileError: the page cannot be written there.
        MissingLibraryError: what draws is not installed.
    """
    if os.path.isdir(target):  # noqa: PTH112 -- a Path raises for a name that is too long
        raise ReportFileError(target, "it is a directory; name a file in it")
    try:
        # Here: only a page needs them, and they take half a second.
        from tigerflow.reporting.page import render_page  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        raise MissingLibraryError(error.name or "", "report", "--html") from error
    plan = read_plan(output_dir)
    chronicle = Chronicle(plan.input_ext)
    report = read_report(output_dir, chronicle.take)
    page = render_page(report, plan, chronicle.runs)
    try:
        write_atomic(target, page)
    except OSError as error:
        raise ReportFileError(target, error.strerror or str(error)) from error
