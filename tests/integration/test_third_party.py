"""A package of tasks that knows nothing of this TigerFlow: `tigerflow-ml` from PyPI.

`make` installs it beside the tests' environment, without the models that its tasks
load when they run: torch and the like are a matter of gigabytes.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
from installed import installed
from runs import DEADLINE_S
from services import Watched

PACKAGES = Path(sys.prefix) / "third-party"
STAND_INS = Path(__file__).parents[1] / "stand_ins"
SLURM_RESOURCES = {"cpus": 1, "memory": "4GB", "time": "00:10:00"}
TASKS = [
    f"{name}{suffix}"
    for name in ("chat", "detect", "embed", "ocr", "transcribe", "translate")
    for suffix in ("", "-local")
]


@pytest.fixture(scope="module")
def targets():
    """Where each of its tasks is, by name."""
    path = [str(installed(PACKAGES.name))]
    return {
        entry.name: entry.value
        for distribution in distributions(path=path)
        for entry in distribution.entry_points.select(group="tigerflow.tasks")
    }


@pytest.fixture
def run(tmp_path, targets):  # noqa: ARG001 -- the package must be there
    def run_with(*words, module="tigerflow"):
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PACKAGES), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    return run_with


def test_its_tasks_are_listed_and_none_is_broken(run):
    result = run("tasks", "list", "--json")

    rows = json.loads(result.stdout)["installed"]
    assert [row["name"] for row in rows] == TASKS
    assert {row["version"] for row in rows} == {"0.2.0"}
    assert [row for row in rows if "error" in row] == []
    assert rows[2] == {
        "name": "detect",
        "module": "tigerflow_ml.image.detect.slurm",
        "version": "0.2.0",
        "description": "Object detection task for Slurm execution.",
    }


def test_its_tasks_are_described_with_the_params_of_their_bases_first(run):
    info = json.loads(run("tasks", "info", "embed-local", "--json").stdout)

    assert (info["class"], info["kind"]) == ("Embed", "local")
    params = {param["name"]: param for param in info["params"]}
    assert list(params)[:4] == ["model", "revision", "cache_dir", "device"]
    assert list(params)[-1] == "batch_size"
    assert params["model"]["required"]
    assert params["truncate_dim"]["default"] == ""
    assert params["allow_fetch"]["flags"] == ["--allow-fetch", "--no-allow-fetch"]


@pytest.mark.parametrize("name", TASKS)
def test_help_of_its_programs_shows_their_options(run, targets, name):
    result = run("--help", module=targets[name].partition(":")[0])

    options = ["--input-dir", "--model", "--allow-fetch", "--seed"]
    options += [] if name.endswith("-local") else ["--max-workers", "--gpus"]
    assert (result.returncode, result.stderr) == (0, "")
    assert [option for option in options if option not in result.stdout] == []


def _write(directory, *tasks):
    path = directory / "pipeline.yaml"
    path.write_text(json.dumps({"tasks": tasks}))
    return path


def test_pipeline_takes_all_its_tasks_by_name(run, tmp_path):
    tasks = []
    for name in TASKS:
        task = {"name": name, "module": name, "input_ext": ".txt"}
        task["params"] = {"model": "m", "allow-fetch": True}
        if name.startswith(("chat", "ocr")):
            task["params"]["prompt"] = "What is it?"
        if name.endswith("-local"):
            task["kind"] = "local"
        else:
            task |= {"kind": "slurm", "max_workers": 2}
            task["worker_resources"] = SLURM_RESOURCES
        tasks.append(task)
    # A default that is on, and one that is nothing, are given otherwise.
    tasks[-1]["params"] |= {"auto_lang_detect": False, "max-model-len": 512}
    (tmp_path / "in").mkdir()

    result = run("compile", _write(tmp_path, *tasks), "in", "out")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Compiled {', '.join(TASKS)} to ")


def test_param_mistakes_are_reported_before_anything_starts(run, tmp_path):
    task = {
        "name": "embed",
        "kind": "local",
        "module": "embed-local",
        "input_ext": ".txt",
        "params": {"modle": "m", "batch_size": 0},
    }
    (tmp_path / "in").mkdir()

    result = run("compile", _write(tmp_path, task), "in", "out")

    assert (result.returncode, result.stdout) == (2, "")
    assert "params.modle: is not a parameter of the task; did you mean 'model'?" in (
        result.stderr
    )
    assert "params.batch_size: " in result.stderr
    assert "params.model: is required; give it a value" in result.stderr
    assert not (tmp_path / "out").exists()


_WIRING = """
import importlib, sys
from tigerflow.models import LocalTaskConfig, SlurmResourceConfig, SlurmTaskConfig

resources = SlurmResourceConfig(cpus=1, memory="4GB", time="00:10:00")
for target in sys.argv[1:]:
    module, _, name = target.partition(":")
    cls = getattr(importlib.import_module(module), name)
    common = {"name": "t", "module": cls.get_module_path(), "input_ext": ".txt"}
    if module.endswith(".slurm"):
        config = SlurmTaskConfig(
            kind="slurm", max_workers=1, worker_resources=resources, **common
        )
    else:
        config = LocalTaskConfig(kind="local", **common)
    print(cls(config).config.module)
"""


def test_its_own_tests_find_the_classes_that_they_configure(targets):
    result = subprocess.run(
        [sys.executable, "-c", _WIRING, *targets.values()],
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )

    modules = [target.partition(":")[0] for target in targets.values()]
    paths = [str(PACKAGES / (name.replace(".", "/") + ".py")) for name in modules]
    assert (result.stderr, result.stdout.splitlines()) == ("", paths)


@pytest.mark.snakemake
def test_its_lightest_task_runs_unchanged(world, targets):  # noqa: ARG001 -- must be there
    flow = Watched(world, PYTHONPATH=f"{PACKAGES}{os.pathsep}{STAND_INS}")
    flow.write(
        {
            "name": "embed",
            "module": "embed-local",
            "output_ext": ".npy",
            "params": {"model": "letters", "truncate-dim": 3},
        }
    )
    flow.add_inputs("abba", "cab")
    (flow.inputs / "empty.txt").touch()

    assert flow.once() == 1

    assert flow.names("embed") == ["abba.npy", "cab.npy", "empty.err"]
    # The params that its setup rebinds: a device for "auto", a dictionary for a text.
    assert "loads letters on cpu, fetching: False" in flow.worker_logs
    assert np.load(flow.out / "embed" / "abba.npy").tolist() == [2, 2, 0]
    error = json.loads((flow.out / "embed" / "empty.err").read_text())
    assert error["exception_type"] == "EmptyFileError"
