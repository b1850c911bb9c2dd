"""Modules that do not load, each in a process of its own: one sentence, no more."""

import pytest
from pipelines import UPPER, mistakes_in, write_pipeline

from tigerflow.pipeline.spec import load_pipeline
from tigerflow.tasks import inquiry

PIPELINE = "tasks:\n  - {name: a, kind: local, module: MODULE, input_ext: .txt}\n"


@pytest.fixture
def mistakes(tmp_path):
    def mistakes_of(code, module="task.py"):
        if code is not None:
            (tmp_path / "task.py").write_text(code)
        path = write_pipeline(tmp_path, PIPELINE.replace("MODULE", module))
        return [line.replace(str(tmp_path), "DIR") for line in mistakes_in(path)]

    return mistakes_of


@pytest.mark.parametrize(
    ("code", "module", "expected"),
    [
        (None, "task.py", "there is no file 'DIR/task.py'"),
        (None, "./", "'DIR' is not a Python file; name a '.py' file"),
        (None, "nope", "there is no task and no module named 'nope'"),
        (
            None,
            "ecko",
            "there is no task and no module named 'ecko'; did you mean 'echo'?",
        ),
        (
            "import no_such_module\n",
            "task.py",
            (
                "cannot import task.py:1: "
                "ModuleNotFoundError: No module named 'no_such_module'"
            ),
        ),
        (
            "x = 1\n\n1 / 0\n",
            "task.py",
            "cannot import task.py:3: ZeroDivisionError: division by zero",
        ),
        (
            "raise ValueError('two\\nlines')\n",
            "task.py",
            "cannot import task.py:1: ValueError: two lines",
        ),
        (
            "raise SystemExit(3)\n",
            "task.py",
            (
                "task.py exits while it is imported; "
                "move the code that exits under: if __name__ == '__main__'"
            ),
        ),
        (
            "import os\nos._exit(3)\n",
            "task.py",
            "task.py cannot be imported: it ended the process with exit code 3",
        ),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "task.py",
            "task.py cannot be imported: it was killed by SIGKILL",
        ),
        (
            "x = 1\n",
            "task.py",
            "task.py has no task; write a class that derives from LocalTask",
        ),
        (
            UPPER.replace("Upper.cli()", "class Lower(Upper):\n    pass\n"),
            "task.py",
            (
                "task.py has several tasks (Upper, Lower); "
                "choose one, for example task.py:Upper"
            ),
        ),
        (
            UPPER,
            "task.py:Uper",
            "task.py has no task 'Uper' (tasks: Upper); did you mean 'Upper'?",
        ),
    ],
)
def test_module_that_does_not_load_is_reported_with_the_reason(
    mistakes, code, module, expected
):
    assert mistakes(code, module) == [
        f"pipeline.yaml:2: tasks[0].module: {expected}",
    ]


@pytest.mark.parametrize(
    "extra",
    [
        "print('hello')\n",
        "import os\nos.write(1, b'hello')\n",
        "import threading\nthreading.Thread(target=threading.Event().wait).start()\n",
        "import subprocess\nsubprocess.Popen(['sleep', '20'])\n",
        "import atexit, os\natexit.register(os._exit, 3)\n",
    ],
)
def test_module_that_does_odd_things_at_import_loads(mistakes, extra):
    assert mistakes(extra + UPPER) == []


def test_module_that_hangs_is_reported(mistakes, monkeypatch):
    # A minute is too long for a test.
    monkeypatch.setattr(inquiry, "TIMEOUT_S", 1)

    assert mistakes("import threading\nthreading.Event().wait()\n") == [
        (
            "pipeline.yaml:2: tasks[0].module: "
            "task.py takes longer than 1 seconds to import"
        ),
    ]


def test_modules_in_the_current_directory_do_not_replace_ours(
    mistakes, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("typer", "tigerflow", "json"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(elsewhere)

    assert mistakes(UPPER) == []


def test_paths_are_relative_to_the_pipeline_file(tmp_path, monkeypatch):
    (tmp_path / "p" / "tasks").mkdir(parents=True)
    (tmp_path / "p" / "tasks" / "upper.py").write_text(UPPER)
    write_pipeline(tmp_path / "p", PIPELINE.replace("MODULE", "tasks/upper.py"))
    monkeypatch.chdir(tmp_path)

    pipeline = load_pipeline(tmp_path / "p" / "pipeline.yaml")

    module = tmp_path / "p" / "tasks" / "upper.py"
    assert pipeline.tasks[0].module == f"{module}:Upper"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("task", "task:Upper"),
        ("task:Other", "task:Other"),
        ("echo", "tigerflow.library.echo:Echo"),
        ("echo:Echo", "tigerflow.library.echo:Echo"),
        ("tigerflow.library.echo", "tigerflow.library.echo:Echo"),
        ("tigerflow.library.echo:Echo", "tigerflow.library.echo:Echo"),
    ],
)
def test_module_may_be_given_in_every_form(tmp_path, module, expected):
    code = UPPER.replace("Upper.cli()", "Other = Upper\nUpper.cli()")
    (tmp_path / "task.py").write_text(code)
    path = write_pipeline(tmp_path, PIPELINE.replace("MODULE", module))

    assert load_pipeline(path).tasks[0].module == expected


def test_module_that_needs_the_setup_commands_is_loaded_with_them(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "only_there.py").write_text("")
    (tmp_path / "task.py").write_text("import only_there\n" + UPPER)
    path = write_pipeline(
        tmp_path,
        f"""
        tasks:
          - name: a
            kind: local
            module: task.py
            input_ext: .txt
            setup_commands:
              - echo loading
              - export PYTHONPATH={tmp_path}/lib
        """,
    )

    assert mistakes_in(path) == []


@pytest.mark.parametrize("printed", ["5", "[]", "null"])
def test_prints_of_setup_commands_are_not_taken_for_an_answer(tmp_path, printed):
    (tmp_path / "task.py").write_text("import only_there\n" + UPPER)
    path = write_pipeline(
        tmp_path,
        f"""
        tasks:
          - name: a
            kind: local
            module: task.py
            input_ext: .txt
            setup_commands: ['echo {printed}', "false"]
        """,
    )

    [mistake] = mistakes_in(path)
    assert mistake.endswith("No module named 'only_there'")
