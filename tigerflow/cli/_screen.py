"""A report as text: bars, sparklines and errors, for a terminal or for a file."""

from collections.abc import Collection, Iterator

from rich.console import Console, ConsoleOptions, OverflowMethod, RenderResult
from rich.text import Text

from tigerflow.cli._signs import GREEN, RED, YELLOW, signs_for
from tigerflow.naming import printable
from tigerflow.report.run_report import Failure, RunReport
from tigerflow.rundir.judgement import FileState

#: As many errors are shown; the others are counted.
ERRORS_SHOWN = 5

#: As many of the latest durations, one character each.
SPARKLINE_WIDTH = 20

_BAR_WIDTHS = range(10, 41)
_NAME_WIDTH = 20
#: What stands beside a bar: indent, gaps, and counts of up to six digits.
_BESIDE_BAR = 32


class Screen:
    """The text of a report, as wide as the console it is printed on."""

    def __init__(
        self, report: RunReport, console: Console, sections: Collection[str]
    ) -> None:
        """Show only `sections`; plain characters where the console has no others."""
        self._report = report
        self._sections = sections
        self._signs = signs_for(console)
        self._is_terminal = console.is_terminal
        names = [len("files"), *(len(task.name) for task in report.tasks)]
        self._name_width = min(max(names), _NAME_WIDTH)
        room = console.width - self._name_width - _BESIDE_BAR
        self._bar_width = max(_BAR_WIDTHS[0], min(room, _BAR_WIDTHS[-1]))

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
        report, files = self._report, self._report.files
        done, failed = files[FileState.FINISHED], files[FileState.ERRORED]
        line = self._line(
            ("Progress: ", "bold"), (f"{done} of {report.total} done", "")
        )
        for count, text, style in (
            (failed, "failed", RED),
            (files[FileState.IN_PROGRESS], "in progress", YELLOW),
            (files[FileState.STAGED], "waiting", ""),
        ):
            if count:
                line.append(f", {count} {text}", style)
        yield line
        yield self._bar_line("files", done, failed, report.total)
        for task in report.tasks:
            yield self._bar_line(task.name, task.processed, task.failed, report.total)
            if task.stopped is not None:
                reason = printable(task.stopped)
                yield self._line((f"    stopped: {reason}", RED), whole=True)

    def _bar_line(self, name: str, done: int, failed: int, total: int) -> Text:
        line = self._line((f"  {self._signs.padded(name, self._name_width)}  ", ""))
        line.append_text(self._signs.bar(self._bar_width, done, failed, total))
        line.append(f"  {done} of {total}")
        if failed:
            line.append(f", {failed} failed", RED)
        return line

    def _metrics(self) -> Iterator[Text]:
        rows = [(t, t.durations_ms) for t in self._report.tasks if t.durations_ms]
        if rows:
            yield self._line(("Metrics:  ", "bold"), ("time that a file took", ""))
        for task, durations in rows:
            line = self._line(
                (f"  {self._signs.padded(task.name, self._name_width)}  ", "")
            )
            spark = sparkline(durations[-SPARKLINE_WIDTH:], self._signs.blocks)
            line.append(spark.ljust(SPARKLINE_WIDTH), "cyan")
            low, high = shown_ms(min(durations)), shown_ms(max(durations))
            average = shown_ms(sum(durations) / len(durations))
            line.append(f"  {low} - {high} ({average} avg)")
            yield line

    def _errors(self) -> Iterator[Text]:
        failures = [each for task in self._report.tasks for each in task.failures]
        if not failures:
            return
        files = {failure.origin for failure in failures}
        count = f"{len(failures)} in {len(files)} file{'s' if len(files) > 1 else ''}"
        yield self._line(("Errors:   ", "bold"), (count, RED))
        for failure in failures[:ERRORS_SHOWN]:
            yield from self._error(failure)
        if len(failures) > ERRORS_SHOWN:
            more = f"  and {len(failures) - ERRORS_SHOWN} more: tigerflow report --json"
            yield self._line((more, "dim"))

    def _error(self, failure: Failure) -> Iterator[Text]:
        """Return where the error is, which has task and file in it, and the reason."""
        path, top = failure.path, self._report.output_dir
        shown = path.relative_to(top) if path.is_relative_to(top) else path
        yield self._line((f"  {printable(str(shown))}", ""), whole=True)
        text = failure.read()
        first = text.message.strip().split("\n", 1)[0]
        reason = ": ".join(part for part in (text.exception_type, first) if part)
        yield self._line((f"    {printable(reason)}", RED))

    def _line(self, *parts: tuple[str, str], whole: bool = False) -> Text:
        """Return a line that a terminal's edge cuts; a `whole` one goes on below."""
        if not self._is_terminal:
            return Text.assemble(*parts, no_wrap=True, overflow="ignore")
        overflow: OverflowMethod = "fold" if whole else self._signs.overflow
        return Text.assemble(*parts, no_wrap=not whole, overflow=overflow)


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
