"""The story of one file as text, as wide as its reader's terminal."""

import contextlib
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tigerflow.cli._screen import shown_ms
from tigerflow.cli._signs import GREEN, RED, YELLOW
from tigerflow.naming import printable
from tigerflow.report.file_story import FileStory, StoryState, TaskStory, Try
from tigerflow.report.page.shown import plain
from tigerflow.report.run_report import Failure
from tigerflow.rundir.judgement import FileState

#: Earlier tries are counted only.
TRIES_SHOWN = 5

_STYLES = {
    StoryState.DONE: GREEN,
    StoryState.FAILED: RED,
    StoryState.RUNNING: YELLOW,
    StoryState.QUEUED: YELLOW,
}

_FILE_STATES: dict[str, tuple[str, str]] = {
    FileState.FINISHED: ("done", GREEN),
    FileState.ERRORED: ("failed", RED),
    FileState.IN_PROGRESS: ("partly done", YELLOW),
    FileState.STAGED: ("not done", YELLOW),
    "gone": ("not done, and its input file is gone", RED),
}


def print_stories(
    stories: list[FileStory], notes: tuple[str, ...], output_dir: Path, console: Console
) -> None:
    """Print each file's story, and what the journal lacks."""
    for number, story in enumerate(stories):
        if number:
            console.print()
        for line in _Writer(console).file(story, output_dir):
            # Nothing is cut, and a file has whole lines.
            console.print(line, soft_wrap=True)
    for note in notes:
        console.print(_line(("\nNote: ", "bold"), (note, YELLOW)), soft_wrap=True)


class _Writer:
    """Writes for one reader."""

    def __init__(self, console: Console) -> None:
        self._width = console.width if console.is_terminal else None

    def file(self, story: FileStory, output_dir: Path) -> Iterator[Text]:
        words, style = _FILE_STATES[story.state]
        states = {task.state for task in story.tasks}
        for each in (StoryState.RUNNING, StoryState.QUEUED):
            if each in states:
                words, style = each.value, YELLOW
                break
        yield _line((f"{printable(story.name)}: ", "bold"), (words, style))
        if story.input is not None:
            yield _line(("Input:    ", "bold"), (_shown(story.input), ""))
        if story.taken_up is not None:
            yield _line(("Taken up: ", "bold"), (_moment(story.taken_up), ""))
        for task in story.tasks:
            yield Text()
            yield from self._task(task)
        if story.state == FileState.ERRORED and story.input is not None:
            words = " ".join(
                shlex.quote(printable(word)) for word in (str(output_dir), story.name)
            )
            yield Text()
            yield _line(("When the cause is fixed:", "bold"))
            yield _line((f"  tigerflow retry {words}", ""))

    def _task(self, task: TaskStory) -> Iterator[Text]:
        reason = "" if task.reason is None else f" ({plain(task.reason)})"
        worker = "" if task.worker is None else f" on worker {task.worker}"
        style = _STYLES.get(task.state, "")
        yield _line(
            (f"{task.name}: ", "bold"), (task.state.value, style), (worker + reason, "")
        )
        earlier = len(task.tries) - TRIES_SHOWN
        if earlier > 0:
            yield _line((f"  {earlier} earlier tries", ""))
        for each in task.tries[-TRIES_SHOWN:]:
            yield from self._try(each)
        if task.result is not None:
            yield _line((f"  {_shown(task.result)}", ""))
        if task.failure is not None:
            yield from _failure(task, task.failure)

    def _try(self, each: Try) -> Iterator[Text]:
        timing = each.timing
        fate = "done in" if timing.succeeded else "failed after"
        text = f"  {_moment(timing.started)}  {fate} {shown_ms(timing.milliseconds)}"
        worker = "" if each.worker is None else f"worker {each.worker}"
        host = f"on {printable(each.host)}" if each.host else ""
        where = f"{worker} {host}".strip()
        if where and self._width and len(f"{text}, {where}") > self._width:
            yield Text(text)
            yield Text(f"    {where}")
        else:
            yield Text(f"{text}, {where}" if where else text)


def _failure(task: TaskStory, failure: Failure) -> Iterator[Text]:
    text = failure.read()
    yield _line((f"  {_shown(failure.path)}", ""))
    if text.timestamp and not task.tries:
        yield _line((f"  {_moment(text.timestamp)}", ""))
    reason = ": ".join(part for part in (text.exception_type, text.message) if part)
    yield from _block(reason, RED)
    # A traceback ends with the reason, which stands above.
    trace = text.traceback.rstrip().removesuffix(reason.strip()).rstrip()
    if trace:
        yield Text()
        yield from _block(trace)
    if printed := failure.printed():
        yield Text()
        yield _line(("  It printed:", "bold"))
        yield from _block(printed, indent="    ")


def _shown(path: Path) -> str:
    """Return a path as short as the reader can use it from here."""
    # The current directory may have been removed.
    with contextlib.suppress(OSError, ValueError):
        path = path.relative_to(Path.cwd())
    return printable(str(path))


def _block(text: str, style: str = "", indent: str = "  ") -> Iterator[Text]:
    for line in plain(text).rstrip().split("\n"):
        yield _line((f"{indent}{line}".rstrip(), style))


def _moment(text: str) -> str:
    """Return a time of the journal as log lines have it: local, to the second."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return plain(text)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, overflow="fold")
