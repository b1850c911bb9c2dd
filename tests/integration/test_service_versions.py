"""Inputs that are replaced by another version, touched, or copied once more."""

import os
import shutil
import time
from pathlib import Path

import pytest
from flows import HEAD, LEFT
from runs import DEADLINE_S, wait_until
from services import NOTHING_TO_DO, TREE, Watched

from tigerflow.engine.metadata import LARGEST_CHECKED
from tigerflow.rundir.events import FileForgotten, FilesFound

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}
COPY = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        note(f"run {input_file.stem}")
        text = input_file.read_text()
        if text == "wait":
            wait_for("go")
        if text == "bad":
            raise ValueError("bad")
        output_file.write_text(text)
"""


@pytest.fixture
def flow(flow: Watched) -> Watched:
    flow.add_module(COPY)
    flow.write(WORK)
    return flow


def touch(path: Path) -> None:
    os.utime(path)


def set_back(path: Path) -> None:
    os.utime(path, (10**9, 10**9))


def copy_again(path: Path) -> None:
    copy = path.with_suffix(".part")
    shutil.copyfile(path, copy)
    copy.replace(path)


def write_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())


CHANGES = [touch, set_back, copy_again, write_again]


@pytest.mark.parametrize("after", ["watch", "snakemake"])
def test_version_that_is_older_than_its_predecessors_result_is_processed(flow, after):
    flow.replace("a.txt", "one", age_s=3 * 3600)
    if after == "watch":
        assert flow.once() == 0, flow.said
    else:
        flow.compile(WORK)
        assert flow.snakemake()[0] == 0
        # The signature of what it finds done is noted.
        assert flow.once() == 0, flow.said
    # Of the same size; its date is later than that of the first.
    flow.replace("a.txt", "two", age_s=2 * 3600)
    assert flow.once() == 0, flow.said
    assert flow.texts("work") == {"a.out": "two"}
    assert flow.noted() == ["run a"] * 2
    assert flow.once() == 0
    assert len(flow.noted()) == 2


def test_older_version_that_comes_when_a_file_is_tried_again_is_processed(flow):
    flow.add_module(TREE)
    flow.write(HEAD, LEFT)
    flow.replace("a.txt", "left", age_s=3 * 3600)
    assert flow.once() == 1, flow.said
    process = flow.watch()
    flow.until_said("1 file failed earlier")
    assert flow.command("retry", flow.out).wait(DEADLINE_S) == 0
    wait_until(lambda: flow.events(FileForgotten))
    assert flow.command("stop", flow.out).wait(DEADLINE_S) == 0
    process.wait(DEADLINE_S)
    flow.replace("a.txt", "good", age_s=2 * 3600)
    assert flow.once() == 0, flow.said
    assert flow.texts("head") == {"a.out": "GOOD"}


@pytest.mark.parametrize("change", CHANGES)
def test_input_that_has_only_another_date_stays_done(flow, change):
    flow.add_inputs("a", "b")
    assert flow.once() == 0, flow.said
    wait_until(lambda: time.time() > (flow.out / "work" / "a.out").stat().st_mtime)
    change(flow.inputs / "a.txt")
    assert flow.once() == 0, flow.said
    assert flow.names("work") == ["a.out", "b.out"]
    assert flow.noted() == ["run a", "run b"]
    assert "Nothing to do: 2 files are done" in flow.said
    # And is known by it from now on, with a result that is not older.
    last = flow.events(FilesFound)[-1]
    changed = (flow.inputs / "a.txt").stat()
    assert last.files == ["a.txt"]
    assert last.signatures == [[changed.st_size, changed.st_mtime_ns]]
    assert (flow.out / "work" / "a.out").stat().st_mtime_ns >= changed.st_mtime_ns
    assert NOTHING_TO_DO in flow.dry_run()


@pytest.mark.parametrize("change", CHANGES)
def test_input_that_gets_another_date_meanwhile_stays_done(flow, change):
    flow.add_inputs("a")
    process = flow.watch()
    wait_until(lambda: flow.settled("a"), flow.said)
    change(flow.inputs / "a.txt")
    flow.add_inputs("b")
    wait_until(lambda: flow.events(FilesFound) and flow.settled("b"), flow.said)
    assert flow.stop(process) == 130
    assert flow.noted() == ["run a", "run b"]


def test_touched_input_of_a_chain_stays_done_without_its_intermediate_output(flow):
    flow.add_module(TREE)
    flow.write(HEAD | {"keep_output": False}, LEFT)
    flow.add_inputs("a")
    assert flow.once() == 0, flow.said
    touch(flow.inputs / "a.txt")
    assert flow.once() == 0, flow.said
    assert flow.texts("left") == {"a.md": "A<"}
    assert (flow.noted("head"), flow.noted("left")) == (["head a"], ["left a"])


def test_touched_input_that_failed_is_tried_again(flow):
    (flow.inputs / "a.txt").write_text("bad")
    assert flow.once() == 1
    touch(flow.inputs / "a.txt")
    assert flow.once() == 1
    assert flow.noted() == ["run a"] * 2
    error = (flow.out / "work" / "a.err").read_text()
    assert "NoResult" not in error


@pytest.mark.parametrize(
    ("size", "options"), [(LARGEST_CHECKED + 1, ()), (5, ("--drop-metadata",))]
)
def test_touched_input_without_a_checksum_is_processed_again(flow, size, options):
    (flow.inputs / "a.txt").write_text("x" * size)
    assert flow.once(*options) == 0, flow.said
    touch(flow.inputs / "a.txt")
    assert flow.once(*options) == 0, flow.said
    assert flow.noted() == ["run a"] * 2
    assert flow.names("work") == ["a.out"]


def test_checksum_of_an_earlier_content_does_not_speak_for_a_later_result(flow):
    flow.replace("a.txt", "one", age_s=3 * 3600)
    assert flow.once() == 0, flow.said
    flow.replace("a.txt", "two", age_s=2 * 3600)
    assert flow.once("--drop-metadata") == 0, flow.said
    flow.replace("a.txt", "one", age_s=1 * 3600)
    assert flow.once("--drop-metadata") == 0, flow.said
    assert flow.texts("work") == {"a.out": "one"}


def test_input_replaced_by_an_older_one_while_it_is_processed_is_processed_too(flow):
    flow.replace("a.txt", "wait", age_s=3600)
    process = flow.watch()
    wait_until(lambda: flow.noted("run a"))
    # Of the same size: by its checksum, Snakemake would take the result for its own.
    flow.replace("a.txt", "next", age_s=7200)
    (flow.root / "go").touch()
    wait_until(lambda: flow.texts("work") == {"a.out": "next"}, flow.said)
    assert flow.stop(process) == 130
    assert flow.noted() == ["run a"] * 2


def test_retry_of_a_touched_input_makes_its_result(flow):
    (flow.inputs / "a.txt").write_text("bad")
    flow.add_inputs("b")
    assert flow.once() == 1
    touch(flow.inputs / "b.txt")
    (flow.inputs / "a.txt").write_text("good")
    assert flow.command("retry", flow.out).wait(DEADLINE_S) == 0
    assert flow.once() == 0, flow.said
    assert flow.texts("work") == {"a.out": "good", "b.out": "b"}
    assert flow.noted() == ["run a", "run a", "run b"]
