"""The log on a stream and in a file."""

import io
import re
from pathlib import Path

import pytest

from tigerflow.errors import NoRunError
from tigerflow.log import METRICS, configure, log_file, logger, mark_lines


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _quiet():
    yield
    logger.remove()
    logger.configure(patcher=lambda _record: None)


def timeless(text):
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text, flags=re.MULTILINE)


def test_lines_are_in_the_file_as_they_are_on_the_terminal_but_plain(tmp_path):
    stream, path = Terminal(), tmp_path / "run.log"
    configure(stream)

    logger.info("before")
    with log_file(path):
        logger.info("{} files, <red>{{x}}</red>", 2)
        logger.error("é \udcff")
    logger.info("after")

    assert timeless(path.read_text()) == (
        "TIME | INFO     | 2 files, <red>{x}</red>\nTIME | ERROR    | é \\udcff\n"
    )
    shown = stream.getvalue()
    assert "\x1b[" in shown
    plain = timeless(re.sub(r"\x1b\[\d+m", "", shown))
    assert [line.split("| ")[-1] for line in plain.splitlines()] == [
        "before",
        "2 files, <red>{x}</red>",
        "é \udcff",
        "after",
    ]


def test_the_file_is_appended_to(tmp_path):
    path = tmp_path / "run.log"
    path.write_text("earlier\n")
    configure(io.StringIO())

    with log_file(path):
        logger.info("now")

    assert timeless(path.read_text()) == "earlier\nTIME | INFO     | now\n"


def test_an_error_that_ends_it_is_in_the_file_alone(tmp_path):
    stream, path = io.StringIO(), tmp_path / "run.log"
    configure(stream)

    (tmp_path / "{x}").mkdir()
    with pytest.raises(NoRunError), log_file(path):
        raise NoRunError(tmp_path / "{x}")

    assert stream.getvalue() == ""
    assert timeless(path.read_text()) == (
        f"TIME | ERROR    | '{tmp_path}/{{x}}' is not the output directory of "
        "a pipeline\n"
    )


def test_an_error_of_ours_is_in_the_file_with_its_traceback(tmp_path):
    path = tmp_path / "run.log"
    configure(io.StringIO())

    with pytest.raises(ZeroDivisionError), log_file(path):
        _ = 1 / 0

    assert "Traceback (most recent call last)" in path.read_text()
    assert "test_log.py" in path.read_text()


def test_a_full_disk_takes_no_lines_and_does_no_harm(capsys):
    stream = io.StringIO()
    configure(stream)

    with log_file(Path("/dev/full")):
        logger.info("no room for this")

    assert "no room for this" in stream.getvalue()
    assert capsys.readouterr().err == ""


def test_marked_lines_name_their_worker_but_not_those_for_programs():
    stream = io.StringIO()
    configure(stream)

    mark_lines("worker 2")
    logger.error("Failed: {}", "{x} <red>")
    logger.log(METRICS, '{"file": 1}')

    assert timeless(stream.getvalue()) == (
        "TIME | ERROR    | [worker 2] Failed: {x} <red>\nTIME | METRICS  | "
        '{"file": 1}\n'
    )
