"""`tigerflow init`: what it writes runs, and it takes nothing away."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs import DEADLINE_S
from slurm_flows import SLURM_DEADLINE_S

from tigerflow.cli import init

ANIMALS = ["lion", "lynx", "tiger"]


@pytest.fixture
def run(weird_tmp_path):
    def run_with(*words, cwd=weird_tmp_path, program="-m", **more):
        command = ["tigerflow"] if program == "-m" else []
        return subprocess.run(
            [sys.executable, program, *command, *map(str, words)],
            cwd=cwd,
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=SLURM_DEADLINE_S + DEADLINE_S,
        )

    return run_with


def contents(directory):
    """Return all that is below a directory, files with their texts."""
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else None
        for path in directory.rglob("*")
    }


@pytest.mark.snakemake
def test_created_pipeline_runs_at_once(run, weird_tmp_path):
    made = run("init", "my first")

    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == (
        "Created a pipeline in my first/. Now run:\n"
        "  cd 'my first'\n"
        "  tigerflow watch --once pipeline.yaml inputs results\n"
        "  tigerflow report results\n"
    )
    assert [path.name for path in weird_tmp_path.iterdir()] == ["my first"]
    first = weird_tmp_path / "my first"
    words = ("watch", "--once", "pipeline.yaml", "inputs", "results")
    done = run(*words, cwd=first)
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in first.glob("results/ask/*.json")) == ANIMALS
    lynx = json.loads((first / "results/ask/lynx.json").read_text())
    assert lynx["text"] == "the lynx hunts alone, in the snow, at night."
    # A shell's prompt stands on a line of its own after `cat`.
    results = [*first.glob("results/clean/*"), *first.glob("results/ask/*")]
    assert [path.name for path in results if path.read_bytes()[-1:] != b"\n"] == []
    report = run("report", "results", "--json", cwd=first)
    assert json.loads(report.stdout)["progress"]["pipeline"]["finished"] == len(ANIMALS)


@pytest.mark.parametrize("name", ["pipeline.yaml", "pipeline-slurm.yaml"])
def test_created_pipeline_passes_check(run, weird_tmp_path, name):
    run("init", "first")

    # Without Slurm, its jobs cannot be tried.
    checked = run("check", name, cwd=weird_tmp_path / "first", PATH="/usr/bin:/bin")

    assert checked.returncode in {0, 1}, checked.stderr
    assert "clean" in checked.stdout
    assert name == "pipeline-slurm.yaml" or checked.returncode == 0


@pytest.mark.slurm
@pytest.mark.snakemake
def test_created_slurm_pipeline_runs_on_a_cluster(run, weird_tmp_path, slurm):
    run("init", "first")

    first = weird_tmp_path / "first"
    words = ("watch", "--once", "pipeline-slurm.yaml", "inputs", "results-slurm")
    done = run(*words, cwd=first, **slurm.variables)

    assert done.returncode == 0, done.stderr
    counted = first / "results-slurm" / "count"
    assert sorted(path.stem for path in counted.iterdir()) == ANIMALS
    assert json.loads((counted / "lynx.json").read_text())["lynx"] == 1
    assert (counted / "lynx.json").read_bytes().endswith(b"}\n")


def test_it_writes_a_pipeline_for_anywhere_and_one_with_a_slurm_task(
    run, weird_tmp_path
):
    run("init", "first")

    texts = [path.read_text() for path in sorted(weird_tmp_path.glob("first/*.yaml"))]
    kinds = [[task["kind"] for task in yaml.safe_load(text)["tasks"]] for text in texts]
    assert kinds == [["local", "local_async", "slurm"], ["local", "local_async"]]


def test_its_tasks_are_programs(run, weird_tmp_path):
    run("init", "first")

    first = weird_tmp_path / "first"
    (first / "clean").mkdir()
    words = ["--input-dir=inputs", "--input-ext=.txt", "--output-dir=clean"]
    words += ["--output-ext=.txt", "--no-lower-case", "--once"]
    done = run(*words, cwd=first, program="tasks/clean.py")

    assert done.returncode == 0, done.stderr
    assert (first / "clean" / "lynx.txt").read_text().startswith("The lynx hunts")


def test_it_writes_into_a_directory_that_has_other_files(run, weird_tmp_path):
    (weird_tmp_path / ".env").write_text("mine")

    made = run("init", ".")

    assert made.returncode == 0
    assert made.stdout.startswith(
        "Created a pipeline in this directory. Now run:\n  tigerflow watch --once "
    )
    assert (weird_tmp_path / ".env").read_text() == "mine"
    assert sorted(path.name for path in weird_tmp_path.iterdir()) == [
        ".env",
        "inputs",
        "pipeline-slurm.yaml",
        "pipeline.yaml",
        "tasks",
    ]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (["pipeline.yaml"], "pipeline.yaml"),
        (["inputs/", "tasks/"], "inputs and tasks"),
    ],
)
def test_it_overwrites_nothing(run, weird_tmp_path, there, told):
    first = weird_tmp_path / "first"
    first.mkdir()
    for name in there:
        (first / name).mkdir() if name.endswith("/") else (first / name).write_text("m")
    before = contents(weird_tmp_path)

    made = run("init", "first")

    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == (
        f"Error: 'first': has {told} already; choose another directory; "
        "nothing was written\n"
    )
    assert contents(weird_tmp_path) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("file", "'file': is not a directory"),
        ("file/below/it", "'file': is not a directory"),
        ("dangling", "'dangling': is not a directory"),
        ("/proc/first", "'/proc/first': No such file or directory"),
        ("x" * 300, f"'{'x' * 300}': File name too long"),
    ],
)
def test_directory_that_cannot_be_is_one_sentence(run, weird_tmp_path, name, told):
    (weird_tmp_path / "file").write_text("mine")
    (weird_tmp_path / "dangling").symlink_to("nowhere")

    made = run("init", name)

    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == f"Error: {told}; nothing was written\n"
    assert sorted(path.name for path in weird_tmp_path.iterdir()) == [
        "dangling",
        "file",
    ]


def test_without_a_directory_the_usage_is_shown(run):
    made = run("init")

    assert made.returncode == 2
    assert "DIR" in made.stderr


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("fails", ["copyfile", "rename"])
def test_init_creates_all_or_nothing(tmp_path, monkeypatch, capsys, is_new, fails):
    directory = tmp_path / "first"
    if not is_new:
        directory.mkdir()
    before = contents(tmp_path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real = {"copyfile": shutil.copyfile, "rename": Path.rename}[fails]
    left = 1 if fails == "rename" and is_new else 3

    def fail_at_last(*arguments):
        # A disk that becomes full cannot be had here without a file system of its own.
        nonlocal left
        left -= 1
        if left == 0:
            raise full
        return real(*arguments)

    owner = shutil if fails == "copyfile" else Path
    monkeypatch.setattr(owner, fails, fail_at_last)
    with pytest.raises(SystemExit) as ended:
        init.init_command(directory)

    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"Error: '{directory}': No space left on device; nothing was written\n"
    )
    assert contents(tmp_path) == before
