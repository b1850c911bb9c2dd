"""The progress of a running service, as lines for a terminal."""

import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from tigerflow.cli._signs import CYAN, GREEN, RED, YELLOW, Signs
from tigerflow.naming import printable
from tigerflow.service.snapshot import Phase, Snapshot, TaskSnapshot

#: What "recent" means for files per second ...
RECENT_S = 30.0
#: ... unless files take so long that there would be fewer than these.
RECENT_FILES = 10

_BAR_WIDTHS = range(8, 41)
_NAME_WIDTH = 32
#: A narrower console gets shorter words.
_NARROW = 60

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 24 * 3600

#: A text and its style.
_Part = tuple[str, str]


@dataclass
class Throughput:
    """Measures how many files per second were settled recently."""

    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, snapshot: Snapshot, at_s: float) -> None:
        """Note the progress at a time, in seconds of the monotonic clock."""
        samples = self._samples
        is_idle = snapshot.phase is Phase.SCANNING or not snapshot.to_do
        # Files that are retried, or were done before, do not count as settled now.
        if samples and (is_idle or snapshot.settled < samples[-1][1]):
            samples.clear()
        if is_idle or (samples and snapshot.settled == samples[-1][1]):
            return
        samples.append((at_s, snapshot.settled))
        while len(samples) > RECENT_FILES and samples[0][0] < at_s - RECENT_S:
            samples.popleft()

    def per_second(self, at_s: float) -> float | None:
        """Return files per second; None if no file was settled yet."""
        if not self._samples:
            return None
        (start_s, before), (_, settled) = self._samples[0], self._samples[-1]
        if settled == before or at_s <= start_s:
            return None
        return (settled - before) / (at_s - start_s)


@dataclass(frozen=True)
class View:
    """How a snapshot is drawn."""

    width: int
    signs: Signs

    def running(self, shown: Snapshot, per_second: float | None) -> list[Text]:
        """Return the lines for a running service."""
        parts = [*_counts(shown), *_pace(shown, per_second)]
        lines = [*self._wrapped(parts), *self._bars(shown, with_workers=True)]
        note = _note(shown)
        return [*lines, self._line(("  ", ""), note)] if note else lines

    def ended(self, shown: Snapshot, output_dir: Path) -> list[Text]:
        """Return the lines that stay: what became of all files, and where to look."""
        undone = shown.known - shown.settled
        parts = _counts(shown, with_open=False)
        if undone:
            parts.append((f"{undone} not done", YELLOW))
        lines = [*self._wrapped(parts), *self._bars(shown, with_workers=False)]
        if shown.failed:
            lines.append(_whole(("Failed:", "bold")))
            lines += [_whole((f"  {printable(each)}", RED)) for each in shown.errors]
            more = shown.failed - len(shown.errors)
            if more > 0:
                lines.append(self._line((f"  and {more} more", RED)))
            command = report_command_line(output_dir, shown.errors, shown.failed)
            lines.append(_whole(("See why: ", "bold"), (command, "")))
        return lines

    def _bars(self, shown: Snapshot, *, with_workers: bool) -> Iterator[Text]:
        rows = [
            [
                (self._ratio(task.done, shown.known), ""),
                (f"{task.failed} failed" if task.failed else "", RED),
                _workers(task) if with_workers else ("", ""),
            ]
            for task in shown.tasks
        ]
        widths = [
            max(len(text) for text, _ in column) for column in zip(*rows, strict=True)
        ]
        indent, gap = (1, 1) if self.width < _NARROW else (2, 2)
        names = [len(task.name) for task in shown.tasks]
        name_width = min(max(names), _NAME_WIDTH, max(10, self.width // 3))

        def room() -> int:
            columns = sum(gap + width for width in widths if width)
            return self.width - indent - name_width - gap - columns

        # Columns without room are left out, from the right.
        while room() < _BAR_WIDTHS[0] and len(widths) > 1:
            widths.pop()
        bar_width = max(1, min(room(), _BAR_WIDTHS[-1]))
        for task, row in zip(shown.tasks, rows, strict=True):
            name = self.signs.padded(task.name, name_width)
            line = self._line((" " * indent + name + " " * gap, ""))
            bar = self.signs.bar(bar_width, task.done, task.failed, shown.known)
            line.append_text(bar)
            for (text, style), width in zip(row, widths, strict=False):
                if width:
                    line.append(" " * gap + text.rjust(width), style)
            line.rstrip()
            yield line

    def _ratio(self, done: int, total: int) -> str:
        return f"{done}/{total}" if self.width < _NARROW else f"{done} of {total}"

    def _wrapped(self, parts: list[_Part]) -> Iterator[Text]:
        """Join parts with commas; break lines only between them."""
        line = self._line(parts[0])
        for text, style in parts[1:]:
            if len(line) + len(text) + 3 > self.width:
                yield line.append(",")
                line = self._line((text, style))
            else:
                line.append(", ").append(text, style)
        yield line

    def _line(self, *parts: _Part) -> Text:
        return Text.assemble(*parts, no_wrap=True, overflow=self.signs.overflow)


def report_command_line(
    output_dir: Path, failed: Sequence[str], count: int | None = None
) -> str:
    """Return the command that shows why files failed; for a single file, its story."""
    only = failed[0] if len(failed) == (count or len(failed)) == 1 else None
    words = [str(output_dir), *([only] if only else [])]
    return " ".join(["tigerflow report", *(shlex.quote(printable(w)) for w in words)])


def _whole(*parts: _Part) -> Text:
    """Return a line that may wrap, so that it can be copied whole."""
    return Text.assemble(*parts, overflow="fold")


def _counts(shown: Snapshot, *, with_open: bool = True) -> list[_Part]:
    parts = [(f"{shown.done} of {shown.known} files done", "bold")]
    if shown.failed:
        parts.append((f"{shown.failed} failed", RED))
    if with_open and shown.running:
        parts.append((f"{shown.running} running", CYAN))
    if with_open and shown.queued:
        parts.append((f"{shown.queued} queued", ""))
    if with_open and shown.held_up:
        parts.append((f"{shown.held_up} held up", YELLOW))
    return parts


def _pace(shown: Snapshot, per_second: float | None) -> Iterator[_Part]:
    if per_second is not None and shown.phase is not Phase.STOPPING:
        yield shown_pace(per_second), ""
        yield f"about {shown_time(shown.to_do / per_second)} left", ""


def _note(shown: Snapshot) -> _Part | None:
    """Return what the service is doing, if that is not processing files."""
    if shown.phase is Phase.STOPPING:
        return "finishing files in progress; stop again to give them up", YELLOW
    if shown.trouble is not None:
        return "paused until results can be stored", RED
    if shown.phase is Phase.SCANNING:
        return "looking for existing files", "dim"
    return None if shown.to_do else ("waiting for files", "dim")


def _workers(task: TaskSnapshot) -> _Part:
    if task.is_stopped:
        return "stopped", RED
    if not task.workers:
        return "", ""
    if task.running > task.busy:
        return f"{task.running} running", GREEN
    if not task.ready:
        return "setting up", YELLOW
    return f"{task.busy}/{task.workers} busy", GREEN if task.busy else "dim"


def shown_pace(per_second: float) -> str:
    """Return files per second, or per minute or hour if that is less than one."""
    if per_second >= 1:
        count, unit = per_second, "s"
    elif per_second * _MINUTE_S >= 1:
        count, unit = per_second * _MINUTE_S, "min"
    else:
        count, unit = per_second * _HOUR_S, "h"
    digits = 0 if count >= 10 else 1  # noqa: PLR2004 -- two digits say enough
    return f"{count:.{digits}f} files/{unit}"


def shown_time(seconds: float) -> str:
    """Return a time, rounded so that it changes seldom."""
    if seconds < _MINUTE_S:
        return f"{max(1, round(seconds))} s"
    if seconds < _HOUR_S:
        return f"{round(seconds / _MINUTE_S)} min"
    if seconds < 2 * _DAY_S:
        hours, minutes = divmod(round(seconds / _MINUTE_S), 60)
        return f"{hours} h {minutes} min"
    return f"{round(seconds / _DAY_S)} days"
