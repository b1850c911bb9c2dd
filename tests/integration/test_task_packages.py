"""Tasks of an installed package, by the names that it registers."""

import json
import os
import subprocess
import sys

import pytest
from installed import installed
from runs import DEADLINE_S
from services import Watched
from slurm_flows import RESOURCES, SlurmFlow

#: `tests/packages/letters`, as pip has installed it.
NAME = "letter-tasks"

ASYNC = {
    "name": "count",
    "kind": "local_async",
    "module": "letters-async",
    "concurrency_limit": 4,
    "params": {"ignore-case": False},
}
WORDS = {"ab": "1", "EVE": "2", "IO": "2"}


@pytest.fixture
def package():
    return str(installed(NAME))


def test_tasks_of_a_package_are_listed_with_its_version(package):
    done = subprocess.run(
        [sys.executable, "-m", "tigerflow", "tasks", "list", "-v"],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )

    of_package = done.stdout.partition("Installed tasks:\n")[2]
    assert of_package == (
        "  letters: letter_tasks.local (0.4) - Count the vowels of a text.\n"
        "  letters-async: letter_tasks.asynchronous:Letters (0.4) - "
        "Count the vowels of many texts at once.\n"
        "  letters-slurm: letter_tasks.slurm:Letters (0.4) - "
        "Count the vowels of a text on a compute node.\n"
    )


@pytest.mark.snakemake
def test_pipeline_runs_tasks_by_their_names(world, package):
    flow = Watched(world, PYTHONPATH=package)
    local = {"name": "local", "module": "letters"}
    other = {"name": "again", "module": "letters:Letters"}
    flow.write(local, ASYNC, other)
    flow.add_inputs(*WORDS)

    assert flow.once() == 0, flow.said

    expected = {f"{stem}.out": number for stem, number in WORDS.items()}
    assert flow.texts("local") == expected
    assert flow.texts("again") == expected
    assert flow.texts("count") == {"ab.out": "1", "EVE.out": "0", "IO.out": "0"}


@pytest.mark.snakemake
def test_plain_snakemake_runs_tasks_by_their_names(world, package):
    flow = Watched(world, PYTHONPATH=package)
    flow.compile(ASYNC | {"params": {}}, module="letters")
    flow.add_inputs(*WORDS)

    code, said = flow.snakemake()

    assert code == 0, said
    assert flow.texts("count") == {f"{stem}.out": n for stem, n in WORDS.items()}


@pytest.mark.slurm
@pytest.mark.snakemake
def test_slurm_pipeline_runs_tasks_by_their_names(world, slurm, package):
    flow = SlurmFlow(world, slurm, PYTHONPATH=package)
    on_slurm = {
        "name": "work",
        "kind": "slurm",
        "module": "letters-slurm",
        "max_workers": 2,
        "worker_resources": RESOURCES,
    }
    before = {"name": "before", "module": "echo", "output_ext": ".txt"}
    flow.write(before, on_slurm | {"depends_on": "before"})
    flow.add_inputs(*WORDS)

    assert flow.finish() == 0, flow.said

    flow.check(*WORDS)
    assert flow.texts("work") == {f"{stem}.out": n for stem, n in WORDS.items()}
    assert "Looking for 5 vowels" in flow.worker_logs


def _refused(directory, package, **keys):
    """Compile a task with mistakes; return what is said, without the file."""
    task = {"name": "a", "kind": "local", "input_ext": ".txt", **keys}
    pipeline = directory / "pipeline.yaml"
    pipeline.write_text(json.dumps({"tasks": [task]}))
    (directory / "in").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tigerflow", "compile", pipeline, "in", "out"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 2
    return done.stderr.replace(f"{pipeline}:1: ", "")


def test_task_of_a_package_is_named_for_the_kind_that_is_wanted(tmp_path, package):
    said = _refused(
        tmp_path, package, module="letters", kind="local_async", concurrency_limit=2
    )

    assert said == (
        "tasks[0].kind: is 'local_async', but Letters is a LocalTask; "
        "write 'kind: local', or 'module: letters-async'\n"
    )


def test_name_that_is_nearly_one_of_a_package_is_put_right(tmp_path, package):
    assert _refused(tmp_path, package, module="lettres") == (
        "tasks[0].module: there is no task and no module named "
        "'lettres'; did you mean 'letters'?\n"
    )
