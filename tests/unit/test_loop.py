"""The service's loop, with windows and workers that do as they are told."""

import asyncio
import errno
import json
import os
import queue
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import plan_of

from tigerflow import files, shortage
from tigerflow.engine.forks import ForkError
from tigerflow.engine.window import WindowExit
from tigerflow.errors import InternalError, SnakemakeError
from tigerflow.rundir.events import FileDone, FilesStaged
from tigerflow.rundir.history import History
from tigerflow.rundir.journal import Journal, read
from tigerflow.rundir.judgement import Listed
from tigerflow.rundir.signatures import signature_of
from tigerflow.service import loop as module
from tigerflow.service import storage, trials, windows
from tigerflow.service.admission import Admitted
from tigerflow.service.file_results import Results
from tigerflow.service.inbox import Arrival
from tigerflow.service.ledger import Counts, Ledger
from tigerflow.service.loop import Loop, LoopParts
from tigerflow.service.options import ServiceOptions

#: Far more than anything takes here.
DEADLINE_S = 60


class Windows:
    """Windows that call `run` with their targets, and end with what it returns."""

    def __init__(self, run):
        self.run = run
        self.windows = []
        self.failures = 0
        self.trials = []
        self.planning = 0
        #: Of windows that go on.
        self.open = []

    def start(self, targets, *, keep_metadata):
        assert keep_metadata
        if self.failures:
            self.failures -= 1
            message = "just died"
            raise ForkError(message)
        self.windows.append(list(targets))
        reader, writer = os.pipe()
        code = self.run(targets)
        if code is None:
            self.open.append(writer)
        else:
            os.close(writer)
        return SimpleNamespace(sentinel=reader, code=code)

    def start_trial(self):
        """Start one that goes as `trials` says, or well."""
        reader, writer = os.pipe()
        os.close(writer)
        code = self.trials.pop(0) if self.trials else None
        return SimpleNamespace(sentinel=reader, code=code)

    def forget_trial(self):
        """Forget nothing: there is no log."""

    def notes(self):
        return []

    def last_words(self):
        return "OSError: no"

    def finish(self):
        """End the windows that go on."""
        while self.open:
            os.close(self.open.pop())

    def end(self, process):
        os.close(process.sentinel)
        return WindowExit.DONE if process.code is None else process.code


class Workers:
    def __init__(self):
        self.stuck = {}
        self.crowded = ()
        self.calls = []

    def drain(self):
        self.calls.append("drain")

    def stop(self):
        self.calls.append("stop")


class Inbox:
    """Files that come one batch after the other; an empty batch ends the first scan."""

    def __init__(self, *batches):
        self.wanted = list
        self.batches = queue.SimpleQueue()
        for batch in batches:
            self.batches.put(batch)

    def batch(self, *, wait):
        del wait
        batch = self.batches.get(timeout=DEADLINE_S)
        return None if batch is None else list(self.wanted(batch))

    def stop(self):
        self.batches.put(None)


class Scene:
    """A run directory with one task, `work`."""

    def __init__(self, path, monkeypatch):
        monkeypatch.setattr(module, "STAGING_INTERVAL_S", 0.02)
        monkeypatch.setattr(storage, "STORAGE_PAUSE_S", 0.02)
        self.inputs = path / "in"
        self.out = path / "out"
        self.inputs.mkdir()
        (self.out / ".tigerflow").mkdir(parents=True)
        (self.out / "work").mkdir()
        self.windows = Windows(self.make)
        self.workers = Workers()
        self.select = lambda waiting, _counts: waiting
        self.tasks = [("work", None, True)]
        self.loop = None
        self.waits = []

    def add(self, *names):
        arrivals = []
        for name in names:
            path = self.inputs / name
            path.write_text(name)
            arrivals.append(Arrival(name, signature_of(path.stat())))
        return arrivals

    def make(self, targets):
        for target in targets:
            (self.out / target).write_text("made")
        return WindowExit.DONE

    def restart(self, *arrivals, **options):
        """Serve as a service does that finds what an earlier one has left."""
        return self.serve(arrivals, finds=True, **options)

    def serve(self, *batches, finds=False, **options):
        options = {"once": True} | options

        async def run():
            with Journal(self.out / ".tigerflow" / "journal.jsonl") as journal:
                plan = plan_of(*self.tasks)
                parts = LoopParts(
                    plan=plan,
                    run_dir=self.out,
                    input_dir=self.inputs,
                    windows=self.windows,
                    workers=self.workers,
                    ledger=Ledger(plan, journal),
                    storage=storage.Storage(self.out, self.inputs, journal),
                    read_history=History,
                    grace_s=0.05,
                    select=self.select,
                )
                self.loop = Loop(parts, ServiceOptions(**options))
                inbox = Inbox(*batches, [])
                if finds:
                    inbox.wanted = self.loop.admission.wanted
                watching = asyncio.create_task(self._watch())
                await asyncio.wait_for(self.loop.run(inbox), DEADLINE_S)
                watching.cancel()

        asyncio.run(run())
        return self.loop.ledger.counts()

    def when_made(self, path, call):
        """Call it in the loop as soon as a file is there."""
        self.waits.append((self.out / path, call))

    def when_failed(self, call):
        """Call it in the loop as soon as a file has failed."""
        self.waits.append((None, call))

    async def _watch(self):
        while self.waits:
            path, call = self.waits[0]
            if self.loop.ledger.failed if path is None else path.exists():
                self.waits.pop(0)
                call()
            await asyncio.sleep(0.01)

    def events(self, kind):
        journal = read(self.out / ".tigerflow" / "journal.jsonl")
        return [event for event in journal if isinstance(event, kind)]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return Scene(tmp_path, monkeypatch)


def test_files_are_staged_made_and_recorded(scene):
    assert scene.serve(scene.add("a.tar.gz", "b.tar.gz")) == Counts(done=2)
    assert scene.windows.windows == [["work/a.out", "work/b.out"]]
    assert scene.events(FilesStaged)[0].files == ["a.tar.gz", "b.tar.gz"]
    assert [e.file for e in scene.events(FileDone)] == ["a.tar.gz", "b.tar.gz"]


def test_windows_have_at_most_their_size_and_are_disjoint(scene):
    names = [f"f{number:03}.tar.gz" for number in range(250)]
    assert scene.serve(scene.add(*names)).done == 250
    assert [len(each) for each in scene.windows.windows] == [100, 100, 50]
    assert len({target for each in scene.windows.windows for target in each}) == 250


def test_slow_branch_does_not_hold_up_the_others(scene, monkeypatch):
    monkeypatch.setattr(windows, "BUSY_WINDOWS", 2)
    monkeypatch.setattr(windows, "WINDOW_SIZE", 1)
    scene.tasks = [("fast", None, True), ("slow", None, True)]
    (scene.out / "fast").mkdir()
    (scene.out / "slow").mkdir()
    slow_windows = []

    def run(targets):
        if any(target.startswith("slow/") for target in targets):
            slow_windows.append(targets)
            if len(slow_windows) >= 2:
                scene.workers.crowded = ("slow",)
            if len(slow_windows) <= 2:
                # Only the fast part of it is made, and the window goes on.
                scene.make(each for each in targets if each.startswith("fast/"))
                return None
        return scene.make(targets)

    def finish_slow_windows():
        scene.workers.crowded = ()
        for targets in slow_windows:
            scene.make(targets)
        scene.windows.finish()

    scene.windows.run = run
    scene.when_made("fast/d.out", finish_slow_windows)
    assert scene.serve(scene.add(*(f"{s}.tar.gz" for s in "abcd"))) == Counts(done=4)
    assert scene.windows.windows == [
        ["fast/a.out", "slow/a.out"],
        ["fast/b.out", "slow/b.out"],
        ["fast/c.out"],
        ["fast/d.out"],
        ["slow/c.out"],
        ["slow/d.out"],
    ]


def test_planning_windows_are_waited_for(scene, monkeypatch):
    monkeypatch.setattr(windows, "BUSY_WINDOWS", 2)
    planning = []

    def run(targets):
        planning.append(scene.windows.planning)
        scene.windows.planning += 1
        asyncio.get_running_loop().call_later(0.1, handed_over)
        return scene.make(targets)

    def handed_over():
        scene.windows.planning -= 1

    scene.windows.run = run
    names = [f"f{number:03}.tar.gz" for number in range(450)]
    assert scene.serve(scene.add(*names)).done == 450
    assert len(planning) == 5
    assert max(planning) < 2


def test_window_that_cannot_be_started_is_started_later(scene):
    scene.windows.failures = 2
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)


def test_windows_that_were_short_of_threads_count_against_no_file(scene, monkeypatch):
    monkeypatch.setattr(module, "STAGING_INTERVAL_S", 0.01)

    def run(targets):
        if len(scene.windows.windows) < 6:
            return WindowExit.SHORTAGE
        return scene.make(targets)

    scene.windows.run = run
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)
    assert not (scene.out / "work" / "a.err").exists()


def test_file_without_a_result_gets_an_error_after_three_tries(scene):
    scene.windows.run = lambda _targets: WindowExit.BROKEN
    assert scene.serve(scene.add("a.tar.gz")) == Counts(failed=1)
    assert len(scene.windows.windows) == 3
    record = json.loads((scene.out / "work" / "a.err").read_text())
    assert (record["exception_type"], record["file"]) == ("NoResult", "a.tar.gz")


def test_file_that_could_not_be_stored_is_tried_until_it_can_be(scene):
    def run(targets):
        if len(scene.windows.windows) < 6:
            scene.loop.ledger.block("a")
            scene.loop.storage.pause("no room")
            return WindowExit.JOBS_FAILED
        return scene.make(targets)

    scene.windows.run = run
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)
    assert not (scene.out / "work" / "a.err").exists()


def test_file_that_is_gone_is_forgotten_and_the_others_are_made(scene):
    arrivals = scene.add("a.tar.gz", "b.tar.gz")
    (scene.inputs / "a.tar.gz").unlink()

    def run(targets):
        return WindowExit.INPUT_MISSING if len(targets) == 2 else scene.make(targets)

    scene.windows.run = run
    assert scene.serve(arrivals) == Counts(done=1)
    assert scene.windows.windows[1:] == [["work/b.out"]]


def test_failure_because_the_input_vanished_is_none(scene):
    arrivals = scene.add("a.tar.gz", "b.tar.gz")

    def run(_targets):
        for stem, kind in (("a", "FileNotFoundError"), ("b", "ValueError")):
            (scene.inputs / f"{stem}.tar.gz").unlink()
            error = scene.out / "work" / f"{stem}.err"
            error.write_text(json.dumps({"exception_type": kind}))
        return WindowExit.JOBS_FAILED

    scene.windows.run = run
    assert scene.serve(arrivals) == Counts(failed=1)
    assert [path.name for path in (scene.out / "work").iterdir()] == ["b.err"]


def test_error_of_an_input_that_vanishes_during_the_start_stays(scene, monkeypatch):
    has_failed = threading.Event()
    steps = []
    forget_gone, next_batch = Results.forget_gone, Inbox.batch

    def forget(results):
        steps.append("errors of inputs that are gone removed")
        return forget_gone(results)

    def batch(inbox, *, wait):
        # What comes after the first file comes when that has failed.
        assert not steps or has_failed.wait(DEADLINE_S)
        return next_batch(inbox, wait=wait)

    def run(_targets):
        steps.append("window")
        (scene.inputs / "a.tar.gz").unlink()
        error = scene.out / "work" / "a.err"
        error.write_text(json.dumps({"exception_type": "ValueError"}))
        has_failed.set()
        return WindowExit.JOBS_FAILED

    monkeypatch.setattr(Results, "forget_gone", forget)
    monkeypatch.setattr(Inbox, "batch", batch)
    scene.windows.run = run
    assert scene.serve(scene.add("a.tar.gz")) == Counts(failed=1)
    assert steps == ["errors of inputs that are gone removed", "window"]


def test_task_that_cannot_run_leaves_its_files_pending_without_a_hang(scene):
    def run(_targets):
        scene.workers.stuck["work"] = "no licence"
        return WindowExit.JOBS_FAILED

    scene.windows.run = run
    scene.serve(scene.add("a.tar.gz"))
    assert scene.loop.ledger.stuck == {"a.tar.gz"}
    assert scene.loop.ledger.counts() == Counts()
    assert [*(scene.out / "work").iterdir()] == []


def test_idle_timeout_ends_the_run_and_not_before(scene):
    started = time.monotonic()
    counts = scene.serve(scene.add("a.tar.gz"), once=False, idle_timeout_s=0.3)
    assert counts == Counts(done=1)
    assert time.monotonic() - started >= 0.3


def test_idle_time_does_not_count_while_a_window_runs(scene):
    writers = []

    scene.windows.run = lambda _targets: None
    scene.windows.end = lambda _process: WindowExit.DONE
    real = scene.windows.start

    def start(targets, *, keep_metadata):
        process = real(targets, keep_metadata=keep_metadata)
        scene.make(targets)
        reader, writer = os.pipe()
        writers.append(writer)
        process.sentinel = reader
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, os.close, writer)
        return process

    scene.windows.start = start
    started = time.monotonic()
    counts = scene.serve(scene.add("a.tar.gz"), once=False, idle_timeout_s=0.1)
    assert counts == Counts(done=1)
    assert time.monotonic() - started >= 0.6


def test_files_that_the_steps_hold_back_do_not_hold_up_the_end(scene):
    scene.select = lambda waiting, _counts: waiting[:1] if len(waiting) > 1 else []
    assert scene.serve(scene.add("a.tar.gz", "b.tar.gz")) == Counts(waiting=1, done=1)


def test_file_done_by_an_earlier_run_is_not_done_again(scene):
    arrivals = scene.add("a.tar.gz")
    assert scene.serve(arrivals).done == 1
    scene.windows.windows.clear()
    admission = scene.loop.admission
    admission._listed = Listed({}, {"work": {"z": 2**63}}, {"work": {}})
    assert list(admission.wanted(scene.add("z.tar.gz"))) == []
    found = admission.admit([]).found
    assert [each.arrival.name for each in found] == ["z.tar.gz"]


@pytest.mark.parametrize("changed", [True, False])
def test_input_that_changed_meanwhile_is_not_deleted(scene, changed):
    arrivals = scene.add("a.tar.gz")

    def run(targets):
        if changed:
            (scene.inputs / "a.tar.gz").write_text("something else")
        return scene.make(targets)

    scene.windows.run = run
    scene.serve(arrivals, delete_input=True)
    assert (scene.inputs / "a.tar.gz").exists() == changed


def test_input_is_deleted_only_when_the_names_of_its_results_are_on_disk(
    scene, monkeypatch
):
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)
    arrivals = scene.add("a.tar.gz")
    source = scene.inputs / "a.tar.gz"
    synced = []

    def note(descriptor):
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((place, [path.name for path in place.iterdir()], source.exists()))

    # There is no power cut to be had; what is asked of the kernel can be seen.
    monkeypatch.setattr(os, "fsync", note)
    scene.serve(arrivals, delete_input=True)

    work = (scene.out / "work").resolve()
    assert (work, ["a.out"], True) in synced
    assert not source.exists()


def test_input_stays_when_its_results_cannot_be_stored_for_good(scene, monkeypatch):
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)
    arrivals = scene.add("a.tar.gz")

    def refuse(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)

    assert scene.serve(arrivals, delete_input=True) == Counts(done=1)
    assert (scene.inputs / "a.tar.gz").exists()


def test_input_whose_results_may_be_of_another_file_is_not_deleted(scene):
    (scene.out / "work" / "a.out").write_text("of an earlier one")
    arrivals = scene.add("a.tar.gz")
    os.utime(scene.inputs / "a.tar.gz", (1, 1))
    arrival = Arrival("a.tar.gz", signature_of((scene.inputs / "a.tar.gz").stat()))
    del arrivals
    assert scene.serve([arrival], delete_input=True) == Counts(done=1)
    assert (scene.inputs / "a.tar.gz").exists()
    assert scene.windows.windows == []


def test_retry_in_the_last_moment_before_an_idle_stop_is_kept_or_refused(
    scene, monkeypatch
):
    error = scene.out / "work" / "a.err"
    answers = []

    def fail(_targets):
        error.write_text("{}")
        scene.windows.run = scene.make
        return WindowExit.JOBS_FAILED

    def ask(_storage):
        # The last that is asked before it is seen whether a service is over.
        if not answers and scene.loop.ledger.failed:
            error.unlink()
            answers.append(scene.loop.retry())
        return True

    monkeypatch.setattr(storage.Storage, "is_open", ask)
    scene.windows.run = fail
    arrivals = scene.add("a.tar.gz")
    assert scene.serve(arrivals, once=False, idle_timeout_s=0) == Counts(done=1)
    assert answers == [True]
    assert not scene.loop.retry()


def test_retried_file_whose_input_is_gone_is_forgotten(scene):
    def fail(_targets):
        (scene.out / "work" / "a.err").write_text("{}")
        return WindowExit.JOBS_FAILED

    def forget():
        (scene.inputs / "a.tar.gz").unlink()
        (scene.out / "work" / "a.err").unlink()
        scene.loop.retry()

    scene.windows.run = fail
    scene.when_failed(forget)
    counts = scene.serve(scene.add("a.tar.gz"), once=False, idle_timeout_s=0.3)
    assert counts == Counts()
    assert scene.loop.ledger.tally.failed == 0
    assert len(scene.windows.windows) == 1


def test_name_that_snakemake_cannot_carry_is_left_alone(scene):
    assert scene.serve(scene.add("{w}.tar.gz", "a.tar.gz")) == Counts(done=1, failed=1)
    assert scene.windows.windows == [["work/a.out"]]
    assert [path.name for path in (scene.out / "work").iterdir()] == ["a.out"]


# What is counted for those who look on


def tallied(scene):
    tally = scene.loop.ledger.tally
    return tally.done, tally.failed, tally.of_task("work")


def fails(scene):
    def run(targets):
        for target in targets:
            (scene.out / target).with_suffix(".err").write_text("{}")
        return WindowExit.JOBS_FAILED

    return run


def test_files_are_counted_by_task_and_after_a_restart_too(scene):
    arrivals = scene.add("a.tar.gz", "b.tar.gz", "{w}.tar.gz")
    assert scene.serve(arrivals[:1]) == Counts(done=1)
    assert tallied(scene) == (1, 0, (1, 0))
    scene.windows.run = fails(scene)
    scene.serve(arrivals[1:])
    assert tallied(scene) == (0, 2, (0, 1))

    scene.restart(*arrivals)

    assert tallied(scene) == (1, 2, (1, 1))


def test_retried_files_are_counted_again(scene):
    arrivals = scene.add("a.tar.gz")
    scene.windows.run = fails(scene)
    scene.serve(arrivals)
    assert tallied(scene) == (0, 1, (0, 1))
    scene.windows.run = scene.make

    scene.restart(*arrivals, retry_failed=True)

    assert tallied(scene) == (1, 0, (1, 0))


def test_replaced_file_is_counted_as_not_done(scene):
    scene.serve(scene.add("a.tar.gz"))
    assert tallied(scene) == (1, 0, (1, 0))
    path = scene.inputs / "a.tar.gz"
    path.write_text("something longer")

    arrival = Arrival("a.tar.gz", signature_of(path.stat()))
    scene.loop._arrived(Admitted([(arrival, ())], []), are_all_known=True)

    assert tallied(scene) == (0, 0, (0, 0))


def test_work_of_an_earlier_run_is_counted_before_it_continues(scene):
    scene.tasks.append(("more", "work", True))
    arrivals = scene.add("a.tar.gz")
    scene.make(["work/a.out"])
    counts = []

    def select(_waiting, _counts):
        counts.append(
            (scene.loop.ledger.tally.done, scene.loop.ledger.tally.of_task("work"))
        )
        return []

    scene.select = select
    scene.restart(*arrivals)

    assert counts[0] == (0, (1, 0))


def test_what_a_task_has_made_is_counted_before_its_window_ends(scene):
    counts = []

    def run(targets):
        scene.loop.ledger.note("a", "work", succeeded=True)
        scene.loop.ledger.note("b", "work", succeeded=False)
        scene.loop.ledger.note("unknown", "work", succeeded=True)
        counts.append(tallied(scene))
        return scene.make(targets)

    scene.windows.run = run
    scene.serve(scene.add("a.tar.gz", "b.tar.gz"))

    assert counts == [(1, 1, (1, 1))]
    # The file system has the last word.
    assert tallied(scene) == (2, 0, (2, 0))


def test_removed_file_is_no_longer_counted(scene):
    arrivals = scene.add("a.tar.gz")

    def run(_targets):
        scene.loop.ledger.note("a", "work", succeeded=False)
        (scene.inputs / "a.tar.gz").unlink()
        return WindowExit.INPUT_MISSING

    scene.windows.run = run
    scene.serve(arrivals)

    assert tallied(scene) == (0, 0, (0, 0))


def test_file_without_a_result_is_counted_as_failed(scene):
    scene.windows.run = lambda _targets: WindowExit.BROKEN
    scene.serve(scene.add("a.tar.gz"))
    assert tallied(scene) == (0, 1, (0, 1))


def test_a_trial_that_fails_at_the_start_ends_the_run_with_the_reason(scene):
    scene.windows.run = lambda _targets: WindowExit.BROKEN
    scene.windows.trials = [WindowExit.BROKEN]
    with pytest.raises(SnakemakeError, match=r"Snakemake cannot run: OSError: no "):
        scene.serve(scene.add("a.tar.gz"))
    assert [*(scene.out / "work").iterdir()] == []


def test_files_of_broken_windows_are_not_blamed_for_trials_that_fail(
    scene, monkeypatch
):
    monkeypatch.setattr(trials, "PAUSES_S", (0.01,) * 5)
    codes = [WindowExit.BROKEN, -9]
    scene.windows.run = lambda targets: codes.pop() if codes else scene.make(targets)
    scene.windows.trials = [WindowExit.DONE, -9, WindowExit.BROKEN, -9]
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)
    assert scene.windows.trials == []


def test_trials_that_fail_for_long_end_the_run(scene, monkeypatch):
    monkeypatch.setattr(trials, "PAUSES_S", (0.01,) * 5)
    scene.windows.run = lambda _targets: WindowExit.BROKEN
    scene.windows.trials = [WindowExit.DONE] + [WindowExit.BROKEN] * 6
    with pytest.raises(SnakemakeError):
        scene.serve(scene.add("a.tar.gz"))
    assert scene.windows.trials == []
    assert [*(scene.out / "work").iterdir()] == []


def test_trials_that_are_short_of_threads_do_not_count(scene, monkeypatch):
    monkeypatch.setattr(trials, "PAUSES_S", (0.01,))
    scene.windows.trials = [WindowExit.SHORTAGE] * 5
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)
    assert scene.windows.trials == []


def test_a_trial_that_fails_for_a_full_disk_is_made_again(scene, monkeypatch):
    monkeypatch.setattr(trials, "PAUSES_S", (0.01,))
    problems = [OSError(28, "No space left on device")] * 3
    monkeypatch.setattr(
        files, "storage_problem", lambda _: problems.pop() if problems else None
    )
    scene.windows.trials = [WindowExit.BROKEN] * 3
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)


def test_files_that_wait_for_a_full_disk_hold_up_the_end(scene, monkeypatch):
    looks = []

    def is_open(_storage):
        # Full for longer than files are waited for that the steps hold back.
        looks.append(bool(scene.loop.ledger.waiting))
        return sum(looks) > 10

    monkeypatch.setattr(storage.Storage, "is_open", is_open)
    assert scene.serve(scene.add("a.tar.gz")) == Counts(done=1)


def test_inbox_that_dies_of_anything_ends_the_run_with_the_error(scene, monkeypatch):
    def die(_self, *, wait):
        del wait
        raise KeyError(0)

    monkeypatch.setattr(Inbox, "batch", die)
    with pytest.raises(InternalError, match=r"Internal error: KeyError\(0\)"):
        scene.serve(once=False)


def test_stop_works_while_no_thread_is_available_for_the_inbox(scene, monkeypatch):
    monkeypatch.setattr(shortage, "PAUSE_S", 0.001)
    short, heard = scene.out / "short", []

    class RareThread(threading.Thread):
        tries = started = 0

        def start(self):
            if self.started == 2 and not heard and self.tries < 12:
                # The results are listed; the system cannot be made short for one test.
                RareThread.tries += 1
                short.touch()
                message = "can't start new thread"
                raise RuntimeError(message)
            RareThread.started += 1
            super().start()

    def stop():
        heard.append(RareThread.started)
        scene.loop.stop()

    monkeypatch.setattr(threading, "Thread", RareThread)
    scene.when_made("short", stop)
    scene.serve(once=False)
    assert heard == [2]


def test_failure_of_another_part_ends_the_run_at_once(scene):
    scene.windows.run = lambda _targets: scene.loop.fail(OSError("no host")) or None
    try:
        with pytest.raises(InternalError, match="no host"):
            scene.serve(scene.add("a.tar.gz"))
    finally:
        scene.windows.finish()
