"""A report as text: bars, sparklines and errors, for a terminal or for a file.

Counts come from `report.reading`; only "partly done" and the average are counted here.
"""

import itertools
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, OverflowMethod, RenderResult
from rich.text import Text

from tigerflow.cli._signs import GREEN, RED, YELLOW, signs_for
from tigerflow.naming import printable
from tigerflow.report.run_report import Failure, RunReport, TaskReport
from tigerflow.rundir.judgement import FileState

#: As many errors are shown, each with those like it; the others are counted.
ERRORS_SHOWN = 5

#: As many are read to see which are alike.
ERRORS_READ = 500

#: As many of the latest durations, one character each.
SPARKLINE_WIDTH, _LEAST_SPARKLINE = 20, 5

_BAR_WIDTHS = range(4, 41)
_NAME_WIDTH = 20
#: A narrower console gets shorter words.
_NARROW = 60
_INDENT, _GAP = "  ", "  "

#: A text and its style.
_Part = tuple[str, str]


class Screen:
    """The text of a report, as wide as the console it is printed on."""

    def __init__(
        self,
        report: RunReport,
        console: Console,
        sections: Collection[str],
        output_dir: Path,
    ) -> None:
        """Show only `sections`; plain characters where the console has no others.

        Commands to copy name the run directory as `output_dir`.
        """
        self._report = report
        self._sections = sections
        self._output_dir = output_dir
        self._signs = signs_for(console)
        self._is_terminal = console.is_terminal
        self._width = console.width
        names = [len("files"), *(len(task.name) for task in report.tasks)]
        self._name_width = min(max(names), _NAME_WIDTH, max(8, console.width // 3))

    def __rich_console__(
        self, _console: Console, _options: ConsoleOptions
    ) -> RenderResult:
        """Yield the lines, each cut at the edge of a terminal, save paths."""
        yield from self.lines()

    def lines(self) -> Iterator[Text]:
        """Return the lines; an empty one between two sections."""
        makers = {
            "status": self._status,
            "progress": self._progress,
            "metrics": self._metrics,
            "errors": self._errors,
        }
        is_first = True
        for name, maker in makers.items():
            lines = list(maker()) if name in self._sections else []
            if lines and not is_first:
                yield Text()
            is_first = is_first and not lines
            yield from lines

    def _status(self) -> Iterator[Text]:
        holder = self._report.holder
        line = self._line(("Status:   ", "bold"))
        if holder is None:
            line.append(f"{self._signs.off} stopped")
        else:
            line.append(self._signs.on, GREEN)
            where = "" if holder.is_here else f" on {holder.host}"
            line.append(f" running (pid {holder.pid}{where})")
        yield line
        path = printable(str(self._report.output_dir))
        yield self._line(("Output:   ", "bold"), (path, ""), whole=True)
        for note in self._report.notes:
            yield self._line(("Note:     ", "bold"), (note, YELLOW), whole=True)

    def _progress(self) -> Iterator[Text]:
        report = self._report
        head, *counts = _counts(report)
        line = self._line(("Progress: ", "bold"), head)
        yield from self._with(line, counts)
        failed = report.files[FileState.ERRORED]
        done = report.files[FileState.FINISHED]
        rows = [_Row("files", done, failed)]
        rows += [
            _Row(task.name, task.processed, task.failed, len(task.running))
            for task in report.tasks
        ]
        of = "/" if self._width < _NARROW else " of "
        ratios = [f"{row.done}{of}{report.total}" for row in rows]
        beside = max(
            len(", ".join([ratio, *(text for text, _ in row.extras)]))
            for ratio, row in zip(ratios, rows, strict=True)
        )
        room = self._width - self._beside_name - len(_GAP) - beside
        bar_width = min(room, _BAR_WIDTHS[-1]) if room >= _BAR_WIDTHS[0] else 0
        stopped = (None, *(task.stopped for task in report.tasks))
        for row, ratio, reason in zip(rows, ratios, stopped, strict=True):
            line = self._line((self._named(row.name), ""))
            if bar_width:
                bar = (bar_width, row.done, row.failed, report.total)
                line.append_text(self._signs.bar(*bar)).append(_GAP)
            yield from self._with(line.append(ratio), row.extras)
            if reason is not None:
                shown = f"    stopped: {printable(reason)}"
                yield self._line((shown, RED), whole=True)

    @property
    def _beside_name(self) -> int:
        """How wide an indented name is, with the gap behind it."""
        return len(_INDENT) + self._name_width + len(_GAP)

    def _named(self, name: str) -> str:
        return f"{_INDENT}{self._signs.padded(name, self._name_width)}{_GAP}"

    def _metrics(self) -> Iterator[Text]:
        rows = [(t, t.durations_ms) for t in self._report.tasks if t.durations_ms]
        if not rows:
            return
        yield self._line(("Metrics:  ", "bold"), ("time per file", ""))
        texts = [_times(durations) for _, durations in rows]
        beside = max(len(" ".join(each)) for each in texts)
        room = self._width - self._beside_name - len(_GAP) - beside
        spark_width = min(SPARKLINE_WIDTH, room)
        for (task, durations), text in zip(rows, texts, strict=True):
            line = self._line((self._named(task.name), ""))
            if spark_width >= _LEAST_SPARKLINE:
                spark = sparkline(durations[-spark_width:], self._signs.blocks)
                line.append(spark.ljust(spark_width) + _GAP, "cyan")
                yield line.append(" ".join(text))
            elif len(line) + len(" ".join(text)) <= self._width:
                yield line.append(" ".join(text))
            else:
                # Below each other, where they do not fit beside each other.
                line.rstrip()
                yield line
                yield from (self._line((f"    {part}", "")) for part in text)

    def _errors(self) -> Iterator[Text]:
        failures = [each for task in self._report.tasks for each in task.failures]
        if not failures:
            return
        files = {failure.origin for failure in failures}
        count = f"{len(failures)} in {len(files)} file{'s' if len(files) > 1 else ''}"
        yield self._line(("Errors:   ", "bold"), (count, RED))
        groups = list(_alike(self._report.tasks))
        for group in groups[:ERRORS_SHOWN]:
            yield from self._group(group)
        more = len(failures) - sum(group.count for group in groups[:ERRORS_SHOWN])
        if more:
            text = f"  and {more} more: tigerflow report --json"
            yield self._line((text, "dim"), whole=True)
        words = (str(self._output_dir), self._path(groups[0].example.path))
        command = " ".join(shlex.quote(printable(word)) for word in words)
        yield self._line(
            ("  In full: ", ""), (f"tigerflow report {command}", ""), whole=True
        )

    def _group(self, group: "_Group") -> Iterator[Text]:
        """Return where the error is, which has task and file in it, and the reason."""
        more = "" if group.count == 1 else f" and {group.count - 1} more"
        where = printable(self._path(group.example.path))
        yield self._line((f"  {where}{more}", ""), whole=True)
        yield self._line((f"    {printable(group.reason)}", RED))

    def _path(self, path: Path) -> str:
        top = self._report.output_dir
        return str(path.relative_to(top) if path.is_relative_to(top) else path)

    def _with(self, line: Text, parts: Sequence[_Part]) -> Iterator[Text]:
        """Append parts after commas; a terminal's lines are broken only there."""
        for number, (text, style) in enumerate(parts, start=1):
            commas = len(", ") + (number < len(parts))
            if self._is_terminal and len(line) + commas + len(text) > self._width:
                yield line.append(",")
                line = self._line(("    ", ""), (text, style))
            else:
                line.append(", ").append(text, style)
        yield line

    def _line(self, *parts: tuple[str, str], whole: bool = False) -> Text:
        """Return a line that a terminal's edge cuts; a `whole` one continues below."""
        if not self._is_terminal:
            return Text.assemble(*parts, no_wrap=True, overflow="ignore")
        overflow: OverflowMethod = "fold" if whole else self._signs.overflow
        return Text.assemble(*parts, no_wrap=not whole, overflow=overflow)


@dataclass(frozen=True)
class _Row:
    """What a bar shows; counts are of files."""

    name: str
    done: int
    failed: int
    running: int = 0

    @property
    def extras(self) -> list[_Part]:
        """What is said beside the files that are done."""
        extras = [
            (self.failed, f"{self.failed} failed", RED),
            (self.running, f"{self.running} running", YELLOW),
        ]
        return [(text, style) for count, text, style in extras if count]


def _counts(report: RunReport) -> list[_Part]:
    """Return how many files there are in each state; only a service runs files."""
    files = report.files
    begun = files[FileState.IN_PROGRESS] - report.running - report.queued
    parts = [(f"{files[FileState.FINISHED]} of {report.total} done", "")]
    parts += [
        (f"{count} {text}", style)
        for count, text, style in (
            (files[FileState.ERRORED], "failed", RED),
            (report.running, "running", YELLOW),
            (report.queued, "queued", ""),
            (begun, "partly done", YELLOW),
            (files[FileState.STAGED], "waiting", ""),
        )
        if count > 0
    ]
    return parts


def _times(durations: list[float]) -> tuple[str, str]:
    low, high = shown_ms(min(durations)), shown_ms(max(durations))
    average = shown_ms(sum(durations) / len(durations))
    return f"{low} - {high}", f"({average} avg)"


@dataclass
class _Group:
    """Failures of one task with the same reason."""

    example: Failure
    #: The exception, and the first line of its message, of the first.
    reason: str
    count: int = 0


def _alike(tasks: Iterable[TaskReport]) -> Iterable[_Group]:
    """Return groups of failures that are alike but for numbers and the file's name.

    Those of many files take long to read: after the first ones, none is.
    """
    groups: dict[tuple[str, str], _Group] = {}
    failures = ((task.name, each) for task in tasks for each in task.failures)
    for task, failure in itertools.islice(failures, ERRORS_READ):
        text = failure.read()
        first = text.message.strip().split("\n", 1)[0]
        reason = ": ".join(part for part in (text.exception_type, first) if part)
        own_name = rf"(?<!\w){re.escape(failure.stem)}(?!\w)"
        kind = re.sub(r"\d+", "0", re.sub(own_name, "…", reason))
        group = groups.setdefault((task, kind), _Group(failure, reason))
        group.count += 1
    return sorted(groups.values(), key=lambda group: -group.count)


def sparkline(values: list[float], blocks: str) -> str:
    """Draw values as one character each, from the lowest block to the highest."""
    low, high = min(values), max(values)
    if low == high:
        return blocks[len(blocks) // 2] * len(values)
    scale = (len(blocks) - 1) / (high - low)
    return "".join(blocks[round((value - low) * scale)] for value in values)


def shown_ms(milliseconds: float) -> str:
    """Return a duration with a unit that leaves few digits."""
    minute_s, milli = 60, 1000
    seconds = milliseconds / milli
    if seconds >= minute_s:
        return f"{int(seconds // minute_s)} min {int(seconds % minute_s)} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.1f} ms"
