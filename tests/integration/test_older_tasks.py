"""Task files that were written for the Dask-based TigerFlow."""

import pytest
from runs import DEADLINE_S

pytestmark = pytest.mark.snakemake

TASKS = """
from typing import Annotated, ClassVar
import typer

SHIFT = 0

class First(LocalTask):
    def run(self, context, input_file, output_file):
        output_file.write_text("the first")


class Second(LocalTask):
    class Params:
        LIMIT: ClassVar[int] = 3
        words: Annotated[int, typer.Option("--n-words")]

    def setup(self, context):
        self.start = SHIFT

    def run(self, context, input_file, output_file):
        output_file.write_text(self.shown(context.words))

    def shown(self, number):
        return f"{number + self.start} {open('note.txt').read()}"


if __name__ == "__main__":
    SHIFT = 10
    Second.cli()
"""

PIPELINE = """
x-common: &common
  kind: local
  input_ext: .txt

staging:
  steps:
    - {kind: callable, function: "chosen:choose"}

tasks:
  - <<: *common
    name: second
    module: tasks.py
    params:
      n_words: 3
"""


@pytest.fixture
def older(flow):
    flow.add_module(TASKS)
    flow.add_inputs("a")
    flow.pipeline.write_text(PIPELINE)
    chosen = "def choose(paths, context):\n    yield from paths\n"
    (flow.root / "chosen.py").write_text(chosen)
    (flow.root / "note.txt").write_text("words")
    return flow


def test_a_task_file_and_pipeline_of_the_older_forms_run(older):
    assert older.once() == 0, older.said

    assert older.texts("second") == {"a.out": "3 words"}


@pytest.mark.parametrize("command", ["check", "watch"])
def test_code_that_workers_do_not_run_is_named(older, command):
    more = [] if command == "check" else ["--once", older.inputs, older.out]

    ended = older.command(command, older.pipeline, *more).wait(DEADLINE_S)

    assert ended == 0, older.said
    line = len((older.root / "tasks.py").read_text().splitlines()) - 1
    assert f"tasks.py: workers do not run line {line}, under" in older.said


def test_check_names_a_missing_relative_path_that_is_opened(older):
    (older.root / "note.txt").unlink()

    assert older.command("check", older.pipeline).wait(DEADLINE_S) == 0, older.said

    assert "opens 'note.txt', which does not exist in" in older.said


def test_check_and_run_refuse_a_file_that_hides_the_package_it_imports(flow):
    flow.add_module(
        """
        class Work(LocalTask):
            def setup(context):
                import pydantic
                note(pydantic.BaseModel)
            def run(context, input_file, output_file): ...
        """,
        name="pydantic",
    )
    flow.add_inputs("a")
    flow.write({"name": "work", "module": "pydantic.py"})

    for command, words in (("check", []), ("watch", ["--once", flow.inputs, flow.out])):
        flow.log.unlink(missing_ok=True)
        assert flow.command(command, flow.pipeline, *words).wait(DEADLINE_S) == 2
        assert "pydantic.py hides the module 'pydantic' that it imports" in flow.said
