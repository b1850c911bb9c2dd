"""What TigerFlow uses of Snakemake's inside is still there, and means the same."""

import inspect
import itertools
import json
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# First: Snakemake's modules import each other, and only in this order.
import snakemake.api  # isort: skip
from snakemake.dag import DAG, PeriodicityDetector
from snakemake.pathvars import PATHVAR_REGEX
from snakemake_interface_storage_plugins.io import WILDCARD_REGEX

from tigerflow.engine.metadata import (
    LARGEST_CHECKED,
    checksum_of,
    recorded_checksum,
)
from tigerflow.naming import snakemake_problem
from tigerflow.rundir.signatures import signature_of

pytestmark = pytest.mark.snakemake

PARTS = ["{", "}", "<", ">", "a", "b0", "_", ",", ".", " ", "\\d", "-", "é", "1", "{{"]

#: Appended to a Snakefile: looks at what `allow_local_jobs` and `limit_files` touch.
PROBE = """
from tigerflow.workflow import limit_files

limit_files(workflow, probe_files=3, work_files=99)

onstart:
    executor = workflow.scheduler._local_executor or workflow.scheduler._executor
    print("executor", type(executor).__module__)
    print("pool", type(executor.pool).__name__, executor.pool._max_workers)
    print("limit", workflow.scheduler.global_resources["probe_files"])
    print("profile", workflow.scheduler.global_resources["work_files"])
"""


def _random_stems():
    chooser = random.Random(20240229)
    for _ in range(20_000):
        yield "".join(chooser.choices(PARTS, k=chooser.randrange(1, 9)))


def test_each_wildcard_of_snakemake_is_a_problem_here():
    examples = ["{a}", "{ a }", "{a,b}", "{0.}", "{a.b}", "{é}"]
    assert all(WILDCARD_REGEX.search(each) for each in examples)
    missed = {
        stem
        for stem in itertools.chain(examples, _random_stems())
        if WILDCARD_REGEX.search(stem) and snakemake_problem(stem) is None
    }
    assert missed == set()


def test_each_path_variable_of_snakemake_is_a_problem_here():
    assert PATHVAR_REGEX.search("<results>")
    missed = {
        stem
        for stem in itertools.chain(["<a>", "x<a0_>y"], _random_stems())
        if PATHVAR_REGEX.search(stem) and snakemake_problem(stem) is None
    }
    assert missed == set()


def test_each_periodic_name_of_snakemake_is_a_problem_here():
    detector = PeriodicityDetector()
    missed, found = set(), 0
    for value, count in itertools.product(["a", "ab", "abc", "aab"], range(15, 45)):
        for stem in (value * count, f"x{value * count}", f"{value * count}x"):
            if detector.is_periodic(stem):
                found += 1
                if snakemake_problem(stem) is None:
                    missed.add(stem)
    assert found > 0
    assert missed == set()


def test_scheduler_has_the_pool_that_is_made_larger(flow):
    flow.add_module("""
        class Work(LocalAsyncTask):
            async def run(context, input_file, output_file): pass
    """)
    flow.add_inputs("a")
    flow.compile({"name": "work", "kind": "local_async", "concurrency_limit": 20})
    with (flow.out / ".tigerflow/workflow/Snakefile").open("a") as snakefile:
        snakefile.write(PROBE)
    code, said = flow.snakemake(cores=1)
    assert code == 0, said
    assert "executor snakemake.executors.local\n" in said
    # Snakemake's own: its cores and five more. Ours may have been added already.
    found = re.search(r"^pool (\w+) (\d+)$", said, re.MULTILINE)
    assert found is not None
    assert found[1] == "ThreadPoolExecutor"
    assert int(found[2]) in {1 + 5, 1 + 5 + 20}
    assert "cannot raise the number of local jobs" not in said
    # A limit of ours holds, and one that the user gave is not changed.
    assert "limit 3\n" in said
    assert "profile 20\n" in said


def test_workflow_takes_limits_of_resources():
    assert callable(snakemake.api.Workflow.register_resource)


def test_times_of_outputs_are_checked_by_what_the_executor_replaces():
    check = DAG.check_output_mtime
    assert inspect.iscoroutinefunction(check)
    assert [*inspect.signature(check).parameters] == ["self", "job", "expanded_output"]


def test_end_of_a_run_removes_directories_by_what_a_window_replaces():
    assert [*inspect.signature(DAG.cleanup_workdir).parameters] == ["self"]


def test_pool_of_threads_reads_its_size_at_each_submission():
    with ThreadPoolExecutor(1) as pool:
        pool._max_workers += 1
        barrier_passed = [pool.submit(lambda: None) for _ in range(2)]
        assert [future.result() for future in barrier_passed] == [None, None]
        assert pool._max_workers == 2


def test_metadata_has_the_time_that_a_run_took_without_that_before_it(flow):
    flow.add_module(TIMED)
    flow.write({"name": "work", "module": "tasks.py:Work"})
    flow.add_inputs("a", "b")
    code = flow.once()
    assert code == 0, flow.said
    metadata = flow.out / ".snakemake" / "metadata"
    records = [json.loads(path.read_text()) for path in metadata.iterdir()]
    assert len(records) == 2, flow.said
    runs = {stem: times for stem, *times in map(str.split, flow.noted())}
    before = 0.0
    for record in sorted(records, key=lambda record: record["starttime"]):
        (name,) = record["input"]
        began, ended = map(float, runs[Path(name).stem])
        # By the worker's clock, to the millisecond.
        assert before - 0.001 <= record["starttime"] <= began + 0.001
        assert record["endtime"] >= ended - 0.001
        assert record["rule"] == "work"
        before = ended


def test_checksum_of_an_input_is_read_as_snakemake_writes_it(flow):
    flow.add_module(TIMED)
    # So long that its metadata is in a directory.
    long = "-".join(map(str, range(70)))
    (flow.inputs / f"{long}.txt").write_text("text")
    (flow.inputs / "most.txt").write_text("x" * LARGEST_CHECKED)
    (flow.inputs / "more.txt").write_text("x" * (LARGEST_CHECKED + 1))
    flow.compile({"name": "work", "module": "tasks.py:Work"})
    code, said = flow.snakemake()
    assert code == 0, said
    for stem, is_noted in [(long, True), ("most", True), ("more", False)]:
        path = flow.inputs / f"{stem}.txt"
        source = f".tigerflow/input/{path.name}"
        noted = recorded_checksum(flow.out, f"work/{stem}.out", source)
        assert noted == checksum_of(path, signature_of(path.stat())), stem
        assert (noted is not None) == is_noted, stem


TIMED = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        began = time.time()
        # The second file waits for the first.
        time.sleep(0.4)
        note(f"{input_file.stem} {began} {time.time()}")
        output_file.touch()
"""

#: Runs a window that has nothing to do, and tells what it imported.
LATE_IMPORTS = """
import sys
from pathlib import Path

import tigerflow.engine.preload
from tigerflow.engine.snakemake import run_targets

before = set(sys.modules)
run = Path(sys.argv[1])
code = run_targets(
    run / ".tigerflow/workflow/Snakefile",
    run,
    ["work_files"],
    ["work/a.out"],
    keep_metadata=True,
)
late = {name.partition(".")[0] for name in set(sys.modules) - before}
print(code.name, sorted(late - sys.stdlib_module_names))
"""


def test_window_imports_nothing_that_was_not_imported_before_it(flow):
    flow.add_module(TIMED)
    flow.write({"name": "work", "module": "tasks.py:Work"})
    flow.add_inputs("a")
    assert flow.once() == 0, flow.said
    done = subprocess.run(
        [sys.executable, "-c", LATE_IMPORTS, flow.out],
        cwd=flow.out,
        env=flow.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["DONE []"], done.stderr
