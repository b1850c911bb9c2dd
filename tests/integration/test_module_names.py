"""Files that are named as modules are, where a Python of ours or of a task may look."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from flows import Flow
from runs import finish, module_text
from services import Watched

_BIN = Path(sys.executable).parent
TIGERFLOW = shutil.which("tigerflow", path=str(_BIN)) or "tigerflow"

#: A task whose child processes get a function and an object of its module.
POOL = """
    import multiprocessing
    class Number:
        def __init__(self, value): self.value = value
    def double(number): return Number(2 * number.value)
    class Work(LocalTask):
        def run(context, input_file, output_file):
            with multiprocessing.get_context(input_file.stem).Pool(2) as pool:
                numbers = pool.map(double, [Number(1), Number(2)])
            output_file.write_text(str([number.value for number in numbers]))
"""
COPY = """
    class Work(LocalTask):
        def run(context, input_file, output_file):
            output_file.write_text(input_file.read_text())
"""


@pytest.mark.parametrize(
    "name",
    [
        "plain.py",
        "01-ocr.py",
        "two words.py",
        "class.py",
        "ocr.v2.py",
        "statistics.py",
        "json.py",
        "tigerflow.py",
        "odd-dir 1/ünï.py",
    ],
)
def test_child_processes_import_a_task_file_of_any_name(world, name):
    run = world.run()
    file = run.path / "modules" / name
    file.parent.mkdir(parents=True)
    file.write_text(module_text(POOL, run.notes))
    run.add_task("", module=str(file))

    for method in ("spawn", "forkserver", "fork"):
        assert run.process(method) == (0, "")
        assert run.output(method).read_text() == "[2, 4]"


def test_child_processes_import_a_task_file_behind_a_link(world):
    run = world.run()
    (run.path / "modules").mkdir()
    (run.path / "modules" / "real.py").write_text(module_text(POOL, run.notes))
    (run.path / "link.py").symlink_to("modules/real.py")
    run.add_task("", module=str(run.path / "link.py"))

    assert run.process("spawn") == (0, "")


def _shadow(modules: Iterable[str], directory: Path) -> Path:
    """Name a file as each of these modules; return where they note that they ran."""
    executed = directory / "executed.txt"
    for module in modules:
        code = f"open({str(executed)!r}, 'a').write(__file__)\nraise ImportError"
        (directory / f"{module}.py").write_text(code)
    return executed


@pytest.mark.snakemake
@pytest.mark.parametrize(
    ("command", "modules"),
    [
        ([TIGERFLOW], sys.stdlib_module_names),
        # Python itself looks for some before anything of ours runs.
        ([sys.executable, "-m", "tigerflow"], ["random", "socket"]),
    ],
    ids=["command", "module"],
)
def test_service_takes_no_module_from_directories_of_the_user(world, command, modules):
    flow = Watched(world)
    flow.out.mkdir()
    flow.add_inputs("a")
    flow.add_module(COPY)
    executed = [_shadow(modules, place) for place in (flow.out, flow.root)]
    flow.write({"name": "work"})

    words = ["watch", "--once", flow.pipeline, flow.inputs, flow.out]
    done = flow.call(*command, *words)

    assert done.returncode == 0, done.stderr
    assert flow.names("work") == ["a.out"]
    assert [path for path in executed if path.exists()] == []


@pytest.mark.snakemake
def test_job_of_a_scheduler_takes_no_module_from_the_results(world):
    flow = Flow(world)
    flow.add_inputs("a")
    flow.add_module(COPY.replace("LocalTask", "SlurmTask"))
    resources = {"cpus": 1, "memory": "1G", "time": "00:10:00"}
    flow.compile(
        {
            "name": "work",
            "module": "tasks.py",
            "kind": "slurm",
            "max_workers": 1,
            "worker_resources": resources,
        }
    )
    executed = _shadow(sys.stdlib_module_names, flow.out)
    # A scheduler that runs a job at once.
    submit = "sh -c 'sh \"$0\" >job.log 2>&1; echo 1'"
    options = ("--executor=cluster-generic", "--jobs=1", "--cores=1")

    code, said = finish(
        flow.start(
            *options, f"--cluster-generic-submit-cmd={submit}", cores=None, profile=None
        )
    )

    assert code == 0, said
    assert flow.names("work") == ["a.out"]
    assert not executed.exists()
