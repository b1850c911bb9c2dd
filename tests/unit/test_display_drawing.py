"""How far a running service is, as text."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from snapshots import BUSY

from tigerflow.cli._progress import Throughput, View, shown_pace, shown_time
from tigerflow.cli._signs import signs_for
from tigerflow.service.snapshot import Phase, Snapshot, TaskSnapshot

EIGHT = Snapshot(
    phase=Phase.SERVING,
    known=100_000,
    done=0,
    failed=0,
    running=1,
    held_up=7,
    tasks=tuple(
        TaskSnapshot(
            f"a_long_name_of_step_{number}",
            done=50_000 // (number + 1),
            workers=min(number, 1),
            ready=number // 2,
            is_stopped=number == 7,
        )
        for number in range(8)
    ),
)


class Stream(io.StringIO):
    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding


def console_of(width, encoding="utf-8"):
    return Console(
        file=Stream(encoding),
        width=width,
        force_terminal=True,
        color_system="standard",
        highlight=False,
    )


def text_of(lines, console):
    for line in lines:
        console.print(line)
    text = console.file.getvalue()
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def drawn(snapshot, width, per_second=None, encoding="utf-8"):
    console = console_of(width, encoding)
    view = View(width, signs_for(console))
    return text_of(view.running(snapshot, per_second), console)


def ended(snapshot, width, output_dir="my results"):
    console = console_of(width)
    view = View(width, signs_for(console))
    return text_of(view.ended(snapshot, Path(output_dir)), console)


# What is drawn


def test_two_tasks_on_80_columns():
    assert (
        drawn(BUSY, 80, 3.21)
        == """\
512 of 1000 files done, 3 failed, 33 running, 452 queued, 3.2 files/s,
about 3 min left
  transcribe  ━━━━━━━━━━━━━━━━━━━━───────────  650 of 1000  3 failed    3/4 busy
  embed       ━━━━━━━━━━━━━━━────────────────  512 of 1000            30 running
"""
    )


def test_two_tasks_on_40_columns():
    assert (
        drawn(BUSY, 40, 3.21)
        == """\
512 of 1000 files done, 3 failed,
33 running, 452 queued, 3.2 files/s,
about 3 min left
 transcribe ━━━━━━──── 650/1000 3 failed
 embed      ━━━━━───── 512/1000
"""
    )


def test_two_tasks_on_200_columns():
    assert drawn(BUSY, 200, 3.21).splitlines() == [
        (
            "512 of 1000 files done, 3 failed, 33 running, 452 queued, "
            "3.2 files/s, about 3 min left"
        ),
        f"  transcribe  {'━' * 26}{'─' * 14}  650 of 1000  3 failed    3/4 busy",
        f"  embed       {'━' * 20}{'─' * 20}  512 of 1000            30 running",
    ]


def test_two_tasks_in_ascii():
    assert (
        drawn(BUSY, 80, 30, "ascii")
        == """\
512 of 1000 files done, 3 failed, 33 running, 452 queued, 30 files/s,
about 16 s left
  transcribe  ###################x...........  650 of 1000  3 failed    3/4 busy
  embed       ###############................  512 of 1000            30 running
"""
    )


def test_eight_tasks_with_long_names_on_80_columns():
    assert (
        drawn(EIGHT, 80)
        == """\
0 of 100000 files done, 1 running, 99992 queued, 7 held up
  a_long_name_of_step_0  ━━━━━━━━━━━━━─────────────  50000 of 100000
  a_long_name_of_step_1  ━━━━━━────────────────────  25000 of 100000  setting up
  a_long_name_of_step_2  ━━━━──────────────────────  16666 of 100000    0/1 busy
  a_long_name_of_step_3  ━━━───────────────────────  12500 of 100000    0/1 busy
  a_long_name_of_step_4  ━━────────────────────────  10000 of 100000    0/1 busy
  a_long_name_of_step_5  ━━────────────────────────   8333 of 100000    0/1 busy
  a_long_name_of_step_6  ━─────────────────────────   7142 of 100000    0/1 busy
  a_long_name_of_step_7  ━─────────────────────────   6250 of 100000     stopped
"""
    )


def test_eight_tasks_with_long_names_on_40_columns():
    assert (
        drawn(EIGHT, 40)
        == """\
0 of 100000 files done, 1 running,
99992 queued, 7 held up
 a_long_name_… ━━━━━━────── 50000/100000
 a_long_name_… ━━━───────── 25000/100000
 a_long_name_… ━─────────── 16666/100000
 a_long_name_… ━─────────── 12500/100000
 a_long_name_… ━─────────── 10000/100000
 a_long_name_… ────────────  8333/100000
 a_long_name_… ────────────  7142/100000
 a_long_name_… ────────────  6250/100000
"""
    )


@pytest.mark.parametrize("width", range(20, 120, 7))
@pytest.mark.parametrize("snapshot", [BUSY, EIGHT])
def test_no_line_is_wider_than_the_console(snapshot, width):
    text = drawn(snapshot, width, 2.0) + ended(snapshot, width, "out")
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"phase": Phase.SCANNING}, "looking for existing files"),
        (
            {"phase": Phase.STOPPING},
            "finishing files in progress; stop again to give them up",
        ),
        ({"trouble": "No space left"}, "paused until results can be stored"),
        ({"done": 997, "running": 0}, "waiting for files"),
    ],
)
def test_a_line_says_when_no_files_are_processed(change, note):
    last = drawn(replace(BUSY, **change), 80).splitlines()[-1]
    assert last == f"  {note}"


def test_no_time_is_left_when_it_stops():
    assert " left" not in drawn(replace(BUSY, phase=Phase.STOPPING), 80, 3.0)


def test_the_end_says_what_failed_and_where_to_look():
    assert (
        ended(BUSY, 80)
        == """\
512 of 1000 files done, 3 failed, 485 not done
  transcribe  ━━━━━━━━━━━━━━━━━━━━━━━━━━──────────────  650 of 1000  3 failed
  embed       ━━━━━━━━━━━━━━━━━━━━────────────────────  512 of 1000
Failed:
  transcribe/a b.err
  transcribe/c.err
  and 1 more
See why: tigerflow report 'my results'
"""
    )


def test_the_end_of_a_run_without_failures_is_short():
    tasks = (TaskSnapshot("work", 2),)
    all_done = replace(BUSY, known=2, done=2, failed=0, tasks=tasks, errors=())
    assert (
        ended(all_done, 80)
        == """\
2 of 2 files done
  work  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  2 of 2
"""
    )


def test_a_path_to_copy_is_not_cut():
    text = ended(BUSY, 30, "a/directory/whose/path/is/long")
    assert "a/directory/whose/path/is/long" in text.replace("\n", "")


# Numbers


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (1234.5, "1234 files/s"),
        (9.96, "10.0 files/s"),
        (1, "1.0 files/s"),
        (0.5, "30 files/min"),
        (1 / 59, "1.0 files/min"),
        (1 / 1200, "3.0 files/h"),
    ],
)
def test_pace_is_shown_in_a_unit_that_gives_at_least_one(per_second, text):
    assert shown_pace(per_second) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (90, "2 min"),
        (3 * 3600 + 61, "3 h 1 min"),
        (5 * 86400, "5 days"),
    ],
)
def test_time_is_shown_roughly(seconds, text):
    assert shown_time(seconds) == text


def seen(*settled, step_s=1.0, known=1000):
    """Return a pace that saw these numbers of settled files, one after another."""
    pace = Throughput()
    for number, done in enumerate(settled):
        at_s = 100 + number * step_s
        pace.see(replace(BUSY, known=known, failed=0, done=done), at_s)
    return pace, 100 + (len(settled) - 1) * step_s


def test_pace_is_that_of_late():
    pace, now_s = seen(*range(100), *range(100, 1000, 10))
    assert pace.per_second(now_s) == pytest.approx(10, rel=0.05)


def test_pace_falls_while_nothing_is_settled():
    pace, now_s = seen(0, 10, 20)
    assert pace.per_second(now_s) == 10
    assert pace.per_second(now_s + 2) == 5


def test_pace_of_few_slow_files_is_known():
    pace, now_s = seen(0, 1, 2, 3, step_s=600)
    assert pace.per_second(now_s) == pytest.approx(1 / 600)


def test_pace_is_unknown_before_anything_is_settled():
    assert Throughput().per_second(0) is None
    pace, now_s = seen(5, 5, 5)
    assert pace.per_second(now_s) is None


def test_pace_restarts_after_idle_time_and_on_retry():
    pace, now_s = seen(0, 10, 10, known=10)
    assert pace.per_second(now_s) is None
    pace, now_s = seen(0, 500, 0, 1, 2)
    assert pace.per_second(now_s) == 1


def test_files_found_done_do_not_count_for_the_pace():
    pace = Throughput()
    for number in range(3):
        scanning = replace(BUSY, phase=Phase.SCANNING, done=100 * number)
        pace.see(scanning, 100 + number)
    assert pace.per_second(103) is None
