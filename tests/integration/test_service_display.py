"""The live display of a service, on a real terminal."""

import re
import signal
import sys

import pytest
from flows import HEAD, LEFT, RIGHT
from runs import DEADLINE_S, lines, wait_until
from services import TREE
from terminals import terminal

pytestmark = pytest.mark.snakemake

#: Each file has a worker of its own: those that wait hold up no other.
WORK = {"name": "work", "module": "tasks.py:Work", "workers": 3}
WAITING = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        if input_file.stem == "bad":
            raise ValueError("bad")
        wait_for("go")
"""


@pytest.fixture
def flow(flow):
    flow.environment |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    for variable in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        flow.environment.pop(variable, None)
    return flow


def on_terminal(flow, *options, columns=200):
    words = [flow.pipeline, flow.inputs, "out", *options]
    return terminal(
        [sys.executable, "-m", "tigerflow", "watch", *map(str, words)],
        flow.root,
        columns=columns,
        env=flow.environment,
    )


def check_intact(flow, shown, *, killed=False):
    """Check that the terminal is as before, and that no line was torn.

    When all is killed, the log may go on for a moment.
    """
    assert shown.modes == shown.before
    assert shown.screen.others == []
    logged = lines(flow.out / ".tigerflow" / "run.log")
    found = [line for line in shown.lines if re.match(r"\d{4}-", line)]
    assert found == (logged[: len(found)] if killed else logged)


def wait_for_files(flow):
    flow.add_module(WAITING)
    flow.write(WORK)
    flow.add_inputs("a", "b", "bad")


def end(flow, shown):
    (flow.root / "go").touch()
    shown.press(b"\x03")
    assert shown.ended() == 128 + signal.SIGINT


def test_a_run_is_shown_below_its_log_and_its_end_stays(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "bad", "left")

    with on_terminal(flow) as shown:
        shown.until_shown("1 of 3 files done, 2 failed", "waiting for files")
        flow.add_inputs("b")
        shown.until_ends(
            "2 of 4 files done, 2 failed",
            f"  head   {'━' * 40}  3 of 4  1 failed  0/1 busy",
            f"  left   {'━' * 30}{'─' * 10}  2 of 4  1 failed  0/1 busy",
            f"  right  {'━' * 30}{'─' * 10}  3 of 4            0/1 busy",
            "  waiting for files",
        )
        shown.press(b"\x03")

        assert shown.ended() == 128 + signal.SIGINT

        check_intact(flow, shown)
        errors = ["  head/bad.err", "  left/left.err"]
        assert shown.lines[-8:-3] == [
            "2 of 4 files done, 2 failed",
            f"  head   {'━' * 40}  3 of 4  1 failed",
            f"  left   {'━' * 30}{'─' * 10}  2 of 4  1 failed",
            f"  right  {'━' * 30}{'─' * 10}  3 of 4",
            "Failed:",
        ]
        assert sorted(shown.lines[-3:-1]) == errors
        assert shown.lines[-1] == "See why: tigerflow report out"
        assert "\x1b[32m━" in shown.raw


def test_files_of_an_earlier_run_are_counted(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "bad", "left")
    assert flow.once() == 1

    with on_terminal(flow, "--once") as shown:
        assert shown.ended() == 1

        assert shown.lines[-7:-4] == [
            f"  head   {'━' * 40}  2 of 3  1 failed",
            f"  left   {'━' * 26}{'─' * 14}  1 of 3  1 failed",
            f"  right  {'━' * 26}{'─' * 14}  2 of 3",
        ]


def test_second_ctrl_c_leaves_the_last_state_and_an_intact_terminal(flow):
    wait_for_files(flow)

    with on_terminal(flow) as shown:
        shown.until_shown("0 of 3 files done, 1 failed, 2 running")
        shown.press(b"\x03")
        shown.until_shown("finishing files in progress; stop again to give them up")
        shown.press(b"\x03")

        assert shown.ended() == 128 + signal.SIGINT

        check_intact(flow, shown, killed=True)
        assert shown.lines[-5:] == [
            "0 of 3 files done, 1 failed, 2 not done",
            f"  work  {'━' * 13}{'─' * 27}  0 of 3  1 failed",
            "Failed:",
            "  work/bad.err",
            "See why: tigerflow report out work/bad.err",
        ]
    flow.until_nothing_is_left()


def test_forced_stop_leaves_the_last_state_and_an_intact_terminal(flow):
    wait_for_files(flow)

    with on_terminal(flow) as shown:
        shown.until_shown("1 failed, 2 running")
        assert flow.command("stop", flow.out, "--force").wait(DEADLINE_S) == 0

        assert shown.ended() in {128 + signal.SIGINT, 128 + signal.SIGTERM}

        check_intact(flow, shown, killed=True)
        assert shown.lines[-5].startswith("0 of 3 files done")
    flow.until_nothing_is_left()


def test_it_fits_the_terminal_also_after_that_is_resized(flow):
    wait_for_files(flow)

    with on_terminal(flow, columns=80) as shown:
        shown.until_shown("0 of 3 files done, 1 failed, 2 running")
        shown.screen.columns = 40
        shown.resize(40)
        shown.until_ends(" work ━━━──────── 0/3 1 failed 2/3 busy")
        (flow.root / "go").touch()
        shown.until_shown("2 of 3 files done")
        end(flow, shown)
        assert shown.modes == shown.before
        assert f" work {'━' * 20} 2/3 1 failed" in shown.lines


def test_terminal_without_such_characters_gets_plain_ones(flow):
    wait_for_files(flow)
    flow.environment["PYTHONIOENCODING"] = "ascii"

    with on_terminal(flow) as shown:
        shown.until_shown("xxxxxxxxxxxxx...........................  0 of 3  1 failed")
        assert shown.raw.isascii()
        end(flow, shown)


def test_dumb_terminal_gets_the_log_alone(flow):
    wait_for_files(flow)
    (flow.root / "go").touch()
    flow.environment["TERM"] = "dumb"

    with on_terminal(flow, "--once") as shown:
        assert shown.ended() == 1

        assert shown.lines == lines(flow.out / ".tigerflow" / "run.log")


def test_what_a_step_prints_appears_above(flow):
    wait_for_files(flow)
    (flow.root / "steps.py").write_text(
        "import sys, warnings\n"
        "def choose(paths, context):\n"
        "    print('chosen', end=' '); print(len(paths))\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    return paths\n"
    )
    flow.write(WORK, steps=[{"kind": "callable", "function": "steps:choose"}])

    with on_terminal(flow) as shown:
        shown.until_shown("1 failed, 2 running")
        found = shown.until_shown("chosen 3", "to stderr")
        assert found.index("chosen 3") < found.index("to stderr") < len(found) - 2
        end(flow, shown)


def test_terminal_that_takes_nothing_does_not_hold_up_the_service(flow):
    wait_for_files(flow)
    flow.add_module("""
    class Work(LocalTask):
        def run(context, input_file, output_file):
            raise ValueError(300 * "long ")
    """)
    stems = [f"f{number}" for number in range(40)]
    flow.add_inputs(*stems)

    with on_terminal(flow) as shown:
        # Nobody reads what it writes.
        flow.until(*(f"work/{stem}.err" for stem in stems))
        wait_until(
            lambda: any("failed files" in line for line in run_log(flow)),
            "the service goes on",
        )
        shown.process.send_signal(signal.SIGTERM)
        assert shown.process.wait(DEADLINE_S) == 128 + signal.SIGTERM


def run_log(flow):
    return lines(flow.out / ".tigerflow" / "run.log")


def test_closing_the_terminal_lets_the_file_in_progress_finish(flow):
    wait_for_files(flow)

    with on_terminal(flow) as shown:
        shown.until_shown("1 failed, 2 running")
        shown.hang_up()
        wait_until(lambda: any("Received signal 1" in line for line in run_log(flow)))
        (flow.root / "go").touch()

        assert shown.process.wait(DEADLINE_S) == 128 + signal.SIGHUP

    assert flow.names("work") == ["a.out", "b.out", "bad.err"]
