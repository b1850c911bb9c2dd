"""Tasks, params and pipeline files that change between runs, or during one."""

import pytest
from flows import HEAD, LEFT, RIGHT
from services import NOTHING_TO_DO, TREE

pytestmark = pytest.mark.snakemake

WORD = """
class Work(LocalTask):
    class Params:
        word: str = ""
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        text = input_file.read_text()
        if text == "bad":
            raise ValueError("bad")
        output_file.write_text(text + context.word)
"""
WORK = {"name": "work", "module": "tasks.py:Work"}


def test_changed_params_are_reported_and_rerun_on_request(flow):
    flow.add_module(WORD)
    flow.write(WORK | {"params": {"word": "1"}})
    flow.add_inputs("a", "b", "bad")
    assert flow.once() == 1, flow.said
    assert "has changed" not in flow.said

    flow.write(WORK | {"params": {"word": "2"}})
    flow.forget()
    assert flow.once() == 1
    told = "[work] has changed since it processed 3 files: use --rerun-changed to"
    assert told in flow.said
    assert flow.noted() == []

    assert flow.once("--rerun-changed") == 1
    assert "since it processed 3 files: they are processed again" in flow.said
    assert flow.noted() == ["run a", "run b", "run bad"]
    assert flow.texts("work")["a.out"] == "a2"

    told = flow.said.count("has changed")
    assert flow.once("--rerun-changed") == 1
    assert flow.said.count("has changed") == told
    assert len(flow.noted()) == 3
    assert NOTHING_TO_DO not in flow.dry_run()  # the failed one
    (flow.inputs / "bad.txt").unlink()
    assert NOTHING_TO_DO in flow.dry_run()


def test_all_that_depends_on_a_changed_task_is_done_again(flow):
    flow.add_module(TREE)
    flow.write(HEAD | {"keep_output": False}, LEFT, RIGHT)
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    flow.add_module(TREE.replace('text + "<"', 'text + "<<"'))
    flow.forget()
    # One file of three tasks: all are told of.
    assert flow.once() == 0
    assert flow.said.count("has changed since it processed 2 files") == 3
    assert flow.once("--rerun-changed") == 0
    assert flow.texts("left") == {"a.md": "A<<", "b.md": "B<<"}
    assert len(flow.noted("head ")) == len(flow.noted("right ")) == 2
    assert NOTHING_TO_DO in flow.dry_run()


def test_only_branches_of_a_task_with_changed_params_are_done_again(flow):
    module = """
        class Head(LocalTask):
            def run(context, input_file, output_file):
                note(f"head {input_file.stem}")
        class Left(LocalTask):
            class Params:
                word: str = ""
            def run(context, input_file, output_file):
                note(f"left {input_file.stem}")
                output_file.write_text(context.word)
        class Right(LocalAsyncTask):
            async def run(context, input_file, output_file):
                note(f"right {input_file.stem}")
    """
    flow.add_module(module)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    flow.forget()
    flow.write(HEAD, LEFT | {"params": {"word": "new"}}, RIGHT)
    assert flow.once("--rerun-changed") == 0, flow.said
    assert flow.noted() == ["left a", "left b"]
    assert flow.texts("left") == {"a.md": "new", "b.md": "new"}


def test_results_whose_input_is_gone_stay_when_the_task_changes(flow):
    flow.add_module(WORD)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    (flow.inputs / "a.txt").unlink()
    flow.write(WORK | {"params": {"word": "2"}})
    assert flow.once("--rerun-changed") == 0
    assert "since it processed 1 file: they" in flow.said
    assert flow.texts("work") == {"a.out": "a", "b.out": "b2"}


def test_pipeline_file_changed_during_a_run_is_reported_once(flow):
    flow.add_module(WORD)
    flow.write(WORK)
    flow.add_inputs("a")
    process = flow.watch()
    flow.until("work/a.out")
    flow.pipeline.unlink()
    flow.write(WORK | {"params": {"word": "2"}})
    flow.until_said("pipeline.yaml has changed; restart the service to use it")
    flow.add_inputs("b")
    flow.until("work/b.out")
    flow.stop(process)
    assert flow.said.count("has changed") == 1
    assert flow.texts("work") == {"a.out": "a", "b.out": "b"}


@pytest.mark.parametrize("options", [[], ["--drop-metadata"]])
def test_snakemake_has_nothing_to_do_with_and_without_metadata(flow, options):
    flow.add_module(TREE)
    flow.write(HEAD | {"keep_output": False}, LEFT, RIGHT)
    flow.add_inputs("a", "b")
    assert flow.once(*options) == 0, flow.said
    metadata = [*(flow.out / ".snakemake" / "metadata").rglob("*")]
    assert bool(metadata) == (not options)
    assert NOTHING_TO_DO in flow.dry_run()
    flow.add_inputs("c")
    assert flow.once(*options) == 0, flow.said
    assert NOTHING_TO_DO in flow.dry_run()
