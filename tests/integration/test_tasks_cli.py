"""`tigerflow tasks` and bare `tigerflow`, with the packages of `tests/packages/`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import DEADLINE_S

import tigerflow

BIN = Path(sys.executable).parent
PACKAGES = Path(__file__).parents[1] / "packages"
ECHO = "Echo task - copies input to output with optional transformations."
VERSION = tigerflow.__version__


@pytest.fixture
def run(tmp_path):
    def run_with(*words, packages=()):
        places = os.pathsep.join(str(PACKAGES / name) for name in packages)
        return subprocess.run(
            [BIN / "tigerflow", *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": places,
                "PYTHONDONTWRITEBYTECODE": "1",
                "COLUMNS": "100",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    return run_with


def test_version_is_printed_alone(run):
    result = run("--version")

    assert (result.returncode, result.stdout) == (0, f"{VERSION}\n")


@pytest.mark.parametrize("words", [[], ["tasks"]])
def test_command_without_a_subcommand_shows_the_usage(run, words):
    result = run(*words)

    assert result.returncode == 2
    assert "Usage: " in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--help"], ["compile", "tasks", "--version", "--install-completion"]),
        (["tasks", "--help"], ["list", "info"]),
        (["run", "--help"], ["Exit codes: 0", "; 1 ", "; 2 ", "; 128 + n "]),
        (["watch", "--help"], ["Exit codes: 0", "; 1 ", "; 2 ", "; 128 + n "]),
        (["tasks", "list", "--help"], ["--verbose", "-v", "--json"]),
        (["tasks", "info", "--help"], ["NAME", "--json"]),
        (["compile", "--help"], ["PIPELINE", "INPUT_DIR", "OUTPUT_DIR", "--to"]),
    ],
)
def test_help_lists_the_commands(run, words, told):
    result = run(*words)

    assert result.returncode == 0
    assert [word for word in told if word not in result.stdout] == []


@pytest.mark.parametrize(
    "words",
    [["compiel"], ["tasks", "lst"], ["tasks", "info"], ["tasks", "list", "--jsn"]],
)
def test_wrong_command_line_gives_no_traceback(run, words):
    result = run(*words)

    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.stderr


def test_list_without_packages_has_the_built_in_tasks(run):
    result = run("tasks", "list")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"Built-in tasks:\n  echo ({VERSION}) - {ECHO}\n"


def test_list_has_installed_tasks_too(run):
    result = run("tasks", "list", packages=["good"])

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "Built-in tasks:\n"
        f"  echo ({VERSION}) - {ECHO}\n"
        "Installed tasks:\n"
        "  shout (1.2) - Shout: a text in capitals, with marks.\n"
        "  shout-afar (1.2) - Shout: a text in capitals, with marks.\n"
    )


def test_verbose_list_says_where_each_task_is(run):
    result = run("tasks", "list", "-v", packages=["good"])

    assert result.stdout == (
        "Built-in tasks:\n"
        f"  echo: tigerflow.library.echo ({VERSION}) - {ECHO}\n"
        "Installed tasks:\n"
        "  shout: shout_tasks.shout:Shout (1.2) - "
        "Shout: a text in capitals, with marks.\n"
        "  shout-afar: shout_tasks.shout:ShoutAfar (1.2) - "
        "Shout: a text in capitals, with marks.\n"
    )


def test_json_list_has_the_keys_of_the_reference(run):
    result = run("tasks", "list", "--json", packages=["good"])

    rows = json.loads(result.stdout)
    assert list(rows) == ["builtin", "installed"]
    assert rows["builtin"] == [
        {
            "name": "echo",
            "module": "tigerflow.library.echo",
            "version": VERSION,
            "description": ECHO,
        },
    ]
    assert rows["installed"][0] == {
        "name": "shout",
        "module": "shout_tasks.shout",
        "version": "1.2",
        "description": "Shout: a text in capitals, with marks.",
    }


BROKEN = {
    "b-dies": "b-dies cannot be imported: it ended the process with exit code 7",
    "b-exits": (
        "broken_tasks.exits exits while it is imported; "
        "move the code that exits under: if __name__ == '__main__'"
    ),
    "b-missing-class": "b-missing-class has no task 'Task' (tasks: none)",
    "b-missing-module": "there is no task and no module named 'broken_tasks.gone'",
    "b-needs": (
        "cannot import broken_tasks.needs: "
        "ModuleNotFoundError: No module named 'no_such_library'"
    ),
    "b-no-run": (
        "Task NoRun has no run; "
        "write @staticmethod def run(context, input_file, output_file)"
    ),
    "b-no-task": "b-no-task has no task; write a class that derives from LocalTask",
    "b-raises": "cannot import broken_tasks.raises: ValueError: two",
    "b-unreadable": "cannot import broken_tasks.unreadable",
}


def test_broken_tasks_are_listed_with_the_reason_and_break_nothing_else(run):
    result = run("tasks", "list", "--json", packages=["broken", "good"])

    assert result.returncode == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)["installed"]}
    assert {name for name, row in rows.items() if "error" in row} == BROKEN.keys()
    for name, expected in BROKEN.items():
        assert rows[name]["error"].startswith(expected)
        error = " ".join(rows[name]["error"].split())
        assert rows[name]["description"] == f"cannot be used: {error}"
    assert rows["shout"]["description"] == "Shout: a text in capitals, with marks."


def test_broken_tasks_have_one_line_each_in_the_text_list(run):
    result = run("tasks", "list", packages=["broken"])

    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 3 + len(BROKEN)
    for line, (name, expected) in zip(lines[3:], BROKEN.items(), strict=True):
        assert line.startswith(f"  {name} (0.1) - cannot be used: {expected}")


def test_name_of_two_packages_leads_to_the_first_and_is_reported(run):
    result = run("tasks", "list", packages=["good", "rival"])

    assert result.stdout == (
        "Built-in tasks:\n"
        f"  echo ({VERSION}) - {ECHO}\n"
        "Installed tasks:\n"
        "  echo (3.0) - cannot be used: the name belongs to a task of tigerflow; "
        "write 'module: rival_tasks:Rival'\n"
        "  shout (1.2) - Shout: a text in capitals, with marks.\n"
        "  shout (3.0) - cannot be used: the name belongs to a task of shout-tasks; "
        "write 'module: rival_tasks:Rival'\n"
        "  shout-afar (1.2) - Shout: a text in capitals, with marks.\n"
    )
    info = run("tasks", "info", "shout", "--json", packages=["rival", "good"])
    assert json.loads(info.stdout)["class"] == "Rival"


def test_info_names_the_others_that_register_a_name(run):
    lines = run("tasks", "info", "echo", packages=["rival"]).stdout.splitlines()

    assert lines[1] == "Source: built-in"
    assert lines[4] == "Also registered: rival_tasks:Rival by rival-tasks"


MALFORMED = {
    "m-attribute": "tigerflow.library.echo:Echo.run",
    "m-empty": "",
    "m-option": "-m",
    "m-path": "tigerflow/library/echo.py",
    "m-words": "not a module: really",
}
NO_TARGET = "is neither 'module' nor 'module:Class'"


def test_entry_points_without_a_class_are_listed_with_the_others(run):
    result = run("tasks", "list", packages=["malformed"])

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[3:] == [
        *(
            f"  {name} (2) - cannot be used: {target!r} {NO_TARGET}"
            for name, target in MALFORMED.items()
        ),
        f"  name with spaces (2) - {ECHO}",
    ]
    info = run("tasks", "info", "m-path", packages=["malformed"])
    assert info.stdout.endswith(
        f"\nCould not load task details: 'tigerflow/library/echo.py' {NO_TARGET}\n"
    )


def compile_one(run, tmp_path, module, packages, **params):
    """Compile a pipeline of one task; return what was said, without the path."""
    task = {"name": "a", "kind": "local", "module": module, "input_ext": ".txt"}
    (tmp_path / "p.yaml").write_text(json.dumps({"tasks": [task | params]}))
    (tmp_path / "in").mkdir(exist_ok=True)
    result = run("compile", "p.yaml", "in", "out", packages=packages)
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr.replace("p.yaml:1: tasks[0].module: ", "@")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("b-raises", "cannot import broken_tasks.raises: ValueError: two lines"),
        ("b-dies", BROKEN["b-dies"]),
        ("b-exits", BROKEN["b-exits"]),
        ("b-missing-class", BROKEN["b-missing-class"]),
        ("b-needs", BROKEN["b-needs"]),
        (
            "m-path",
            f"m-path cannot be used: 'tigerflow/library/echo.py' {NO_TARGET}",
        ),
    ],
)
def test_pipeline_with_a_broken_task_has_the_reason(run, tmp_path, name, told):
    packages = ["broken", "malformed"]

    assert compile_one(run, tmp_path, name, packages) == (2, f"@{told}\n")
    assert not (tmp_path / "out").exists()


def test_pipeline_says_which_of_two_tasks_with_one_name_it_takes(run, tmp_path):
    params = {"params": {"marks": 1}}
    code, said = compile_one(run, tmp_path, "shout", ["good", "rival"], **params)

    assert code == 0
    assert said == (
        "Warning: @'shout' is registered by both shout-tasks and rival-tasks; "
        "TigerFlow uses the one from shout-tasks, and 'rival_tasks:Rival' leads to the "
        "other\n"
    )
    # What it is told by its module is beyond doubt.
    module = "rival_tasks:Rival"
    assert compile_one(run, tmp_path, module, ["good", "rival"]) == (0, "")


@pytest.mark.parametrize("module", ["shout", "shout_tasks.shout:Shout"])
def test_class_of_a_package_is_not_to_be_changed_for_another_kind(
    run, tmp_path, module
):
    kind = {"kind": "local_async", "concurrency_limit": 1, "params": {"marks": 1}}
    code, said = compile_one(run, tmp_path, module, ["good"], **kind)

    assert code == 2
    assert said == (
        "p.yaml:1: tasks[0].kind: is 'local_async', but Shout is a LocalTask; "
        "write 'kind: local'\n"
    )


def test_package_without_metadata_is_listed_without_a_version(run):
    result = run("tasks", "list", packages=["nameless"])

    assert result.stdout.splitlines()[3:] == [
        "  nameless - Another echo and another shout.",
    ]


def test_info_shows_the_task_with_inherited_parameters(run):
    result = run("tasks", "info", "shout", packages=["good"])

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "Task: shout\n"
        "Source: installed\n"
        "Module: shout_tasks.shout\n"
        "Version: 1.2\n"
        "Kind: local\n"
        "\n"
        "Description:\n"
        "Shout: a text in capitals, with marks.\n"
        "\n"
        "For those who don't hear well.\n"
        "\n"
        "Parameters for Shout:\n"
        "  --marks: (required)\n"
        "      How many marks\n"
        "  --mark: !\n"
    )


def test_json_info_has_class_kind_and_parameters(run):
    result = run("tasks", "info", "shout-afar", "--json", packages=["good"])

    info = json.loads(result.stdout)
    assert list(info) == [
        *("name", "source", "module", "version", "class", "kind", "description"),
        "params",
    ]
    assert (info["class"], info["kind"]) == ("ShoutAfar", "slurm")
    assert info["params"][0] == {
        "name": "marks",
        "flags": ["--marks"],
        "type": "int",
        "required": True,
        "default": None,
        "help": "How many marks",
    }


def test_info_of_a_built_in_task_says_so(run):
    result = run("tasks", "info", "echo")

    assert result.stdout.splitlines()[:5] == [
        "Task: echo",
        "Source: built-in",
        "Module: tigerflow.library.echo",
        f"Version: {VERSION}",
        "Kind: local",
    ]


def test_info_of_a_broken_task_has_the_reason(run):
    result = run("tasks", "info", "b-needs", packages=["broken"])

    assert result.returncode == 0
    assert result.stdout == (
        "Task: b-needs\n"
        "Source: installed\n"
        "Module: broken_tasks.needs\n"
        "Version: 0.1\n"
        "\n"
        "Could not load task details: cannot import broken_tasks.needs: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ecko", "Error: Task 'ecko' not found; did you mean 'echo'?"),
        ("xyz", "Error: Task 'xyz' not found."),
    ],
)
def test_info_of_an_unknown_task_says_what_to_do(run, name, expected):
    result = run("tasks", "info", name)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"{expected}\nRun 'tigerflow tasks list' to see available tasks.\n"
    )
