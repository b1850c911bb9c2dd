"""What the source of a task's file tells before it runs."""

import sys
import textwrap
import traceback

import pytest

from tigerflow.tasks.openings import relative_openings
from tigerflow.tasks.remarks import remarks
from tigerflow.tasks.source import program_class

TASK = """\
import os
from pathlib import Path
from tigerflow.tasks import LocalTask

class Work(LocalTask):
    def run(context, input_file, output_file):
        {body}

WORDS = "words.txt"
"""


@pytest.fixture
def write(tmp_path):
    def write(ending="Work.cli()", body="pass"):
        path = tmp_path / "work.py"
        path.write_text(TASK.format(body=body) + textwrap.dedent(ending))
        return path

    return write


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        (
            "if __name__ == '__main__':\n    os.environ['A'] = '1'\n    Work.cli()\n",
            "line 11",
        ),
        (
            "if __name__ == '__main__':\n    A = 1\n    B = 2\n    Work.cli()\n",
            "lines 11 to 12",
        ),
        ("if __name__ == '__main__':\n    A = 1\n\nWork.cli()\n", "line 11"),
        (
            (
                "def main():\n    os.environ['A'] = '1'\n    Work.cli()\n\n"
                "if __name__ == '__main__':\n    main()\n"
            ),
            "line 15",
        ),
    ],
)
def test_lines_of_a_main_block_that_a_pipeline_does_not_run_are_named(
    write, ending, lines
):
    assert list(remarks(write(ending))) == [
        (
            f'work.py: workers do not run {lines}, under "if __name__ == '
            "'__main__':\"; move code that the task needs above the block, or into "
            "setup"
        )
    ]


@pytest.mark.parametrize(
    "ending",
    [
        "Work.cli()\n",
        "if __name__ == '__main__':\n    Work.cli()\n",
        "if __name__ == '__main__':\n    'start'\n    import sys\n    Work.cli()\n",
        "if __name__ == '__main__':\n    raise SystemExit(Work.cli())\n",
        "if __name__ == '__main__':\n    sys.exit(Work.cli())\n",
        "def main():\n    Work.cli()\n\nif __name__ == '__main__':\n    main()\n",
        # No program of a task: it is for whoever wrote it.
        "if __name__ == '__main__':\n    print('a test')\n",
        "this is no Python\n",
    ],
)
def test_block_that_only_starts_the_task_is_not_reported(write, ending):
    assert list(remarks(write(ending))) == []


@pytest.mark.parametrize(
    "body",
    [
        "open('words.txt')",
        "open('words.txt', 'w')",
        "Path('words.txt').read_text()",
        "with Path('words.txt').open() as file: pass",
        "import sqlite3; sqlite3.connect('words.txt')",
        "open(file='words.txt')",
        "open(WORDS)",
    ],
)
def test_a_relative_path_missing_in_the_pipeline_directory_is_named(
    write, tmp_path, body
):
    path = write(body=body)

    assert list(relative_openings(path, tmp_path)) == [
        (
            f"work.py:7 opens 'words.txt', which does not exist in {str(tmp_path)!r}; "
            "relative paths start in the pipeline file's directory"
        )
    ]
    (tmp_path / "words.txt").touch()
    assert list(relative_openings(path, tmp_path)) == []


@pytest.mark.parametrize(
    "body",
    [
        "open('/words.txt')",
        "open(input_file)",
        "open(output_file, 'w')",
        "Path('words.txt').suffix",
        "(Path('a') / input_file.name).read_text()",
        "input_file.with_name('x').read_text()",
        "import sqlite3; sqlite3.connect(':memory:')",
        "os.chdir('/'); open('words.txt')",
        "gzip.open('words.txt')",
        # What Python itself cannot write as it was.
        "f\"{words.split('\u00a0')}\".encode()",
    ],
)
def test_other_paths_are_not_reported(write, tmp_path, body):
    assert list(relative_openings(write(body=body), tmp_path)) == []


def test_a_relative_path_that_is_too_long_counts_as_missing(write, tmp_path):
    name = 300 * "x"
    (named,) = relative_openings(write(body=f"open('{name}')"), tmp_path)
    assert named.startswith(f"work.py:7 opens {name!r}, which does not exist in ")


def test_an_import_that_leads_to_a_task_instead_of_a_package_is_named(
    write, tmp_path, monkeypatch
):
    path = write(body="import whisper, helper, other, json")
    program = TASK.format(body="pass") + "Work.cli()\n"
    for name, text in (("whisper", "x = 1"), ("helper", "x = 1"), ("other", program)):
        (tmp_path / f"{name}.py").write_text(text)
    installed = tmp_path / "installed"
    installed.mkdir()
    for name in ("whisper", "helper"):
        (installed / f"{name}.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(installed), *sys.path])
    assert list(remarks(path)) == []

    (tmp_path / "whisper.py").write_text(program)

    assert list(remarks(path)) == [
        (
            "work.py imports 'whisper' in line 7, which is the task in whisper.py; "
            "rename that file if you mean a package"
        )
    ]


def test_the_class_of_the_program_is_known_only_when_it_is_one(write):
    assert program_class(write("Work.cli()")) == "Work"
    assert program_class(write("pass")) is None
    assert program_class(write("Work.cli()\nOther.cli()\n")) is None


class Garbage:
    """Has its last reference in itself; its end prints a traceback, as a task's may."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        try:
            self.itself = 1 + int("one")
        except ValueError:
            traceback.format_exc()


def test_a_source_is_read_while_garbage_prints_tracebacks(write):
    words = ", ".join(f"({number}, [{number}])" for number in range(3000))
    path = write(f"MANY = [{words}]\nWork.cli()\n")
    Garbage()
    assert program_class(path) == "Work"


@pytest.mark.parametrize("deep", ["-" * 90_000 + "1", "(" * 5000 + ")" * 5000])
def test_source_too_deep_to_parse_is_not_reported(write, deep):
    path = write(f"DEEP = {deep}\nWork.cli()\n")
    assert [*remarks(path)] == []
    assert program_class(path) is None


def test_a_source_may_call_functions_that_call_themselves_and_one_another(write):
    path = write(
        """\
        def factorial(n):
            return 1 if n < 2 else n * factorial(n - 1)

        def start():
            restart()

        def restart():
            start()
            Work.cli()

        SIZE = factorial(5)
        if __name__ == "__main__":
            start()
        """
    )
    assert program_class(path) == "Work"
    assert len([*remarks(path)]) == 1
