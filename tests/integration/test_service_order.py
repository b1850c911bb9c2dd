"""The order in which files are processed: that of staging, or that of their names."""

import pytest
from flows import HEAD, LEFT
from runs import lines
from services import TREE, Watched

from tigerflow.service.windows import WINDOW_SIZE

pytestmark = pytest.mark.snakemake

#: Setup takes longer for nobody: the first window has a warm worker at once.
COPY = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(input_file.stem)
        output_file.write_text(input_file.read_text())
"""
WORK = {"name": "work", "module": "tasks.py:Work"}
BY_NAME = {"kind": "sort_by", "key": "name"}
REVERSED = BY_NAME | {"reverse": True}


@pytest.fixture
def flow(flow: Watched) -> Watched:
    flow.add_module(COPY)
    return flow


def names(count: int) -> list[str]:
    return [f"f{number:03}" for number in range(count)]


@pytest.mark.parametrize(
    "steps", [[REVERSED], [REVERSED, {"kind": "max_staged", "count": 6}]]
)
def test_files_are_processed_in_the_order_in_which_they_are_staged(flow, steps):
    flow.write(WORK, steps=steps)
    # More than two windows have, unless only six are staged at a time.
    stems = names(250 if len(steps) == 1 else 20)
    flow.add_inputs(*stems)
    assert flow.once() == 0, flow.said
    assert lines(flow.notes) == stems[::-1]


def test_batches_have_files_in_the_order_in_which_they_are_staged(flow):
    flow.add_module("""
class Work(LocalTask):
    def run_batch(context, pairs):
        for source, output in pairs:
            note(source.stem)
            output.touch()
""")
    flow.write(WORK | {"batch_size": 4}, steps=[REVERSED])
    flow.add_inputs(*names(30))
    assert flow.once() == 0, flow.said
    assert lines(flow.notes) == names(30)[::-1]


def test_each_task_of_a_chain_has_files_in_the_order_of_staging(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, steps=[REVERSED])
    flow.add_inputs(*names(150))
    assert flow.once() == 0, flow.said
    begun = {
        task: [line.split()[1] for line in lines(flow.notes) if line.startswith(task)]
        for task in ("head", "left")
    }
    stems = names(150)[::-1]
    assert begun["head"] == stems
    # Two windows, each with a Snakemake that sends its files on when it gets to it.
    for window in (stems[:WINDOW_SIZE], stems[WINDOW_SIZE:]):
        assert [stem for stem in begun["left"] if stem in window] == window


@pytest.mark.parametrize("cores", [1, 3])
def test_plain_snakemake_with_the_executor_goes_by_names(flow, cores):
    flow.compile(WORK)
    for number, stem in enumerate(names(20)):
        # Snakemake would begin with the largest.
        (flow.inputs / f"{stem}.txt").write_text("x" * (7 * number % 11))
    code, said = flow.snakemake("--executor", "tigerflow", cores=cores, profile=None)
    assert code == 0, said
    assert lines(flow.notes) == names(20)
