"""Inputs that go, change or cannot be read while the service processes them."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest
from mounts import mounted
from remote import remote_directory
from runs import DEADLINE_S, wait_until

from tigerflow.rundir.events import FilesStaged, RunStarted

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}

#: "first" is in the worker while the others are staged behind it.
WORKING = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        text = input_file.read_text()
        note(f"run {input_file.stem}")
        if input_file.stem == "first":
            wait_for("go")
        output_file.write_text(text)
"""

#: Takes away an input in the moment between Snakemake's two looks at it.
REMOVING = """
import os
import snakemake.api
from snakemake.io import _IOFile

look = _IOFile.mtime_uncached

async def remove_and_look(self, skip_storage=False):
    output = f"work/{os.path.basename(self).removesuffix('.txt')}.out"
    if self.endswith(".txt") and os.path.exists(output):
        os.unlink(self)
    return await look(self, skip_storage)

_IOFile.mtime_uncached = remove_and_look
"""


def hold(flow, *stems):
    """Start a service that has these files staged behind one in progress."""
    flow.add_module(WORKING)
    flow.write(WORK)
    flow.add_inputs("first")
    process = flow.watch()
    wait_until(lambda: flow.noted("run first"))
    flow.add_inputs(*stems)
    names = {f"{stem}.txt" for stem in stems}
    wait_until(lambda: names <= staged(flow))
    return process


def staged(flow):
    return {name for event in flow.events(FilesStaged) for name in event.files}


def release(flow):
    (flow.root / "go").touch()


def test_directory_with_files_of_other_extensions_alone_is_named_with_a_hint(flow):
    flow.add_module(WORKING)
    flow.write(WORK)
    for name in ("a.TXT", "b.TXT", "sub/c.txt"):
        (flow.inputs / name).parent.mkdir(exist_ok=True)
        (flow.inputs / name).touch()
    told = (
        "' is a .txt input: 2 end in .TXT (such as 'a.TXT'); 1 in "
        "subdirectories, which are not searched (such as 'sub/c.txt'); "
        "did you mean '.TXT'?"
    )
    assert flow.once() == 0
    assert flow.said.count(told) == 1
    said = flow.command("compile", flow.pipeline, flow.inputs, flow.out)
    assert said.wait(DEADLINE_S) == 0
    assert flow.said.count(f"{flow.inputs}{told}") == 2
    assert f"{flow.inputs}{told}" in flow.snakemake()[1]
    # Not where one is an input.
    flow.add_inputs("d")
    assert flow.once() == 0
    assert flow.said.count(told) == 2


def test_input_that_vanishes_while_it_is_staged_harms_no_other(flow):
    process = hold(flow, "a", "gone", "moved", "z")
    (flow.inputs / "gone.txt").unlink()
    (flow.inputs / "moved.txt").rename(flow.root / "moved")
    release(flow)
    flow.until("work/first.out", "work/a.out", "work/z.out")
    wait_until(lambda: "gone.txt is gone" in flow.said)
    wait_until(lambda: "moved.txt is gone" in flow.said)
    assert flow.names("work") == ["a.out", "first.out", "z.out"]
    # It comes back as a file like any other.
    (flow.root / "moved").rename(flow.inputs / "moved.txt")
    flow.until("work/moved.out")
    assert flow.stop(process) == 130
    assert not [line for line in flow.noted() if line == "run gone"]
    assert "Traceback" not in flow.said


def test_result_stays_whose_input_vanishes_while_snakemake_looks_at_it(flow):
    (flow.root / "removing").mkdir()
    (flow.root / "removing" / "sitecustomize.py").write_text(REMOVING)
    flow.environment["PYTHONPATH"] = str(flow.root / "removing")
    flow.add_module(WORKING)
    flow.write(WORK)
    flow.add_inputs("a", "b")
    assert flow.once() == 0
    assert [*flow.inputs.iterdir()] == []
    assert flow.names("work") == ["a.out", "b.out"]
    log = flow.out / ".tigerflow" / "logs" / "snakemake.log"
    assert "although it existed before" in log.read_text()


@pytest.mark.parametrize("age_s", [0, 3600])
def test_inputs_replaced_while_in_progress_end_with_the_new_content(flow, age_s):
    process = hold(flow, "a", "z")
    # One has been read already, one is only staged.
    flow.replace("first.txt", "new", age_s)
    flow.replace("a.txt", "new", age_s)
    release(flow)
    new = {"a.out": "new", "first.out": "new", "z.out": "z"}
    wait_until(lambda: flow.texts("work") == new)
    wait_until(lambda: flow.settled("first", "a", "z"))
    assert flow.stop(process) == 130
    assert flow.once() == 0
    assert flow.texts("work") == new
    assert flow.noted("run first") == ["run first"] * 2
    assert len(flow.noted("run a")) <= 2


def test_link_whose_target_goes_while_it_is_staged_is_done_when_it_is_back(flow):
    target = flow.root / "target"
    target.write_text("linked")
    process = hold(flow, "a")
    (flow.inputs / "link.txt").symlink_to(target)
    wait_until(lambda: "link.txt" in staged(flow))
    target.unlink()
    release(flow)
    flow.until("work/first.out", "work/a.out")
    flow.until_said("link.txt is gone")
    target.write_text("linked again")
    flow.until("work/link.out")
    assert flow.texts("work")["link.out"] == "linked again"
    assert flow.stop(process) == 130


def without_override(process_words):
    """Take the right to read everything from root, if it is that."""
    rights = "-dac_override,-dac_read_search"
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0:
        if setpriv is None:
            pytest.skip("root reads everything, and there is no setpriv")
        words = [setpriv, "--bounding-set", rights, "--inh-caps", rights]
        return [*words, *process_words]
    return process_words


def test_input_that_may_not_be_read_fails_and_is_done_when_it_may(flow, monkeypatch):
    real = subprocess.Popen

    def started(words, **how):
        ours = words[:2] == [sys.executable, "-m"]
        return real(without_override(words) if ours else words, **how)

    # The service's user owns the files, as in life, but is not above their modes.
    monkeypatch.setattr(subprocess, "Popen", started)
    process = hold(flow, "a", "locked", "z")
    (flow.inputs / "locked.txt").chmod(0)
    release(flow)
    flow.until("work/first.out", "work/a.out", "work/z.out", "work/locked.err")
    record = json.loads((flow.out / "work" / "locked.err").read_text())
    assert record["exception_type"] == "PermissionError"
    assert record["file"] == "locked.txt"
    (flow.inputs / "locked.txt").chmod(0o644)
    assert flow.command("retry", flow.out).wait(DEADLINE_S) == 0
    flow.until("work/locked.out")
    assert flow.stop(process) == 130
    assert flow.names("work") == ["a.out", "first.out", "locked.out", "z.out"]
    assert flow.noted("run locked") == ["run locked"]


def test_input_on_a_disk_that_breaks_fails_and_the_others_are_done(flow):
    there = flow.root / "there"
    there.mkdir()
    flow.add_module(WORKING)
    flow.write(WORK)
    for stem in ("a", "broken", "z"):
        (there / f"{stem}.txt").write_text(stem)
    with remote_directory(there, flow.inputs) as disk:
        disk.break_file("broken.txt")
        assert flow.once() == 1
        record = json.loads((flow.out / "work" / "broken.err").read_text())
        assert record["message"].startswith("[Errno 5]")
        disk.heal()
        assert flow.once("--retry-failed") == 0
    assert flow.texts("work") == {"a.out": "a", "broken.out": "broken", "z.out": "z"}


@pytest.mark.parametrize("restarted", [False, True])
def test_empty_directory_in_the_place_of_the_mounted_inputs_forgets_nothing(
    flow, restarted
):
    disk = flow.root / "disk"
    disk.mkdir()
    with ExitStack() as mounts:
        mount = ExitStack()
        mounts.enter_context(mount)
        mount.enter_context(mounted(flow.inputs, "--bind", disk))
        process = hold(flow, "a", "b")
        # Gone, with a file in progress and two staged: only the empty point is there.
        mount.close()
        assert [*flow.inputs.iterdir()] == []
        release(flow)
        for stem in ("a", "b"):
            flow.until_said(f"{stem}.txt is gone")
        if restarted:
            assert flow.stop(process) == 130
            process = flow.watch()
            wait_until(lambda: len(flow.events(RunStarted)) == 2)
        flow.add_inputs("stray")
        flow.until("work/stray.out")
        mounts.enter_context(mounted(flow.inputs, "--bind", disk))
        flow.add_inputs("later")
        flow.until(*(f"work/{stem}.out" for stem in ("a", "b", "first", "later")))
        assert flow.stop(process) == 130
        assert flow.once() == 0
        assert sorted(path.name for path in disk.iterdir()) == [
            f"{stem}.txt" for stem in ("a", "b", "first", "later")
        ]
    runs = flow.noted("run")
    assert [line for line in runs if "first" not in line] == [
        "run a",
        "run b",
        "run later",
        "run stray",
    ]
    assert len(flow.names("work")) == 5


def test_mounted_inputs_that_come_and_go_after_they_are_done_stay_done(flow):
    disk = flow.root / "disk"
    disk.mkdir()
    flow.add_module(WORKING)
    flow.write(WORK)
    with mounted(flow.inputs, "--bind", disk):
        flow.add_inputs("a", "b")
        process = flow.watch("--delete-input")
        flow.until("work/a.out", "work/b.out")
        wait_until(lambda: not [*disk.iterdir()])
        flow.add_inputs("c")
        flow.until("work/c.out")
        with mounted(flow.inputs, "-t", "tmpfs", "none"):
            # A scan of the empty one is over when it has found this.
            flow.add_inputs("d")
            flow.until("work/d.out")
        flow.add_inputs("e")
        flow.until("work/e.out")
        assert flow.stop(process) == 130
    assert flow.noted("run") == [f"run {stem}" for stem in "abcde"]
    assert flow.names("work") == [f"{stem}.out" for stem in "abcde"]
