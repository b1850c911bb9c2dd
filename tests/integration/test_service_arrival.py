"""Files that come slowly, in masses, or from another machine, to a running service."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from remote import SCANS, remote_directory
from runs import DEADLINE_S, wait_until

from tigerflow.service.inbox import Inbox

pytestmark = pytest.mark.snakemake

WORK = {"name": "work", "module": "tasks.py:Work"}

COPY = """
class Work(LocalTask):
    def run(context, input_file, output_file):
        text = input_file.read_text()
        note(f"run {input_file.stem} {len(text)}")
        output_file.write_text(text)
"""

#: Writes a file until another exists, but for five seconds at least.
SLOW_WRITER = """
import itertools, os, sys, time
with open(sys.argv[1], "w") as file:
    for number in itertools.count():
        print("a line", file=file, flush=True)
        time.sleep(0.1)
        if number > 50 and os.path.exists(sys.argv[2]):
            break
"""


@contextmanager
def inputs_seen(flow, cache_s):
    """Yield the directory that writers have; the service has the flow's inputs."""
    if cache_s is None:
        yield flow.inputs
        return
    flow.environment |= SCANS
    there = flow.root / "there"
    there.mkdir()
    with remote_directory(there, flow.inputs, cache_s):
        yield there


@pytest.mark.parametrize("cache_s", [None, 3, 30], ids=["events", "3 s", "30 s"])
def test_file_that_is_written_slowly_and_one_with_an_old_date_are_done_once(
    flow, cache_s
):
    flow.add_module(COPY)
    flow.write(WORK)
    with inputs_seen(flow, cache_s) as directory:
        process = flow.watch()
        flow.until_said("Starting pipeline execution")
        slow, enough = directory / "slow.txt", flow.root / "enough"
        words = [sys.executable, "-c", SLOW_WRITER, str(slow), str(enough)]
        with subprocess.Popen(words), ExitStack() as stack:
            stack.callback(enough.touch)
            wait_until(slow.exists)
            # As rsync -a: a temporary name, the date of the source, then the name.
            temporary = directory / ".copied.txt.Xk3f9q"
            temporary.write_text("copied")
            os.utime(temporary, (10**9, 10**9))
            temporary.rename(directory / "copied.txt")
            flow.until("work/copied.out")
            assert flow.names("work") == ["copied.out"]
        flow.until("work/slow.out")
        (directory / "last.txt").write_text("last")
        flow.until("work/last.out")
        assert flow.stop(process) == 130
        assert flow.once() == 0
        text = slow.read_text()
    assert flow.noted() == ["run copied 6", "run last 4", f"run slow {len(text)}"]
    assert flow.texts("work")["slow.out"] == text


#: How many events the kernel keeps for one who does not read them.
QUEUE_LIMIT = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def make_files(directory, count):
    """Write files into a directory of their own."""
    directory.mkdir()
    for number in range(count):
        (directory / f"f{number:05}.txt").write_text(str(number))
    return directory


def move_all(source, target):
    """Move the files; meanwhile no other thread of this process does anything."""
    # Unlike those of CDLL, functions of PyDLL keep the interpreter to themselves.
    command = f"mv {source}/*.txt {target}/"
    assert ctypes.PyDLL(None).system(command.encode()) == 0


@contextmanager
def no_events(process, directory):
    """Let a service have no event of what comes into its input directory meanwhile."""
    process.send_signal(signal.SIGSTOP)
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    # Two events each; when there is no more room, others are lost.
    paths = [directory / ".one", directory / ".other"]
    paths[0].touch()
    for _ in range(QUEUE_LIMIT // 2 + 1):
        paths[0].rename(paths[1])
        paths.reverse()
    yield
    process.send_signal(signal.SIGCONT)


def test_twenty_thousand_files_at_once_are_all_found_though_events_are_lost(
    tmp_path, monkeypatch
):
    inputs, count = tmp_path / "in", max(20_000, QUEUE_LIMIT + 1)
    inputs.mkdir()
    ready = make_files(tmp_path / "ready", count)
    taken, told = {}, set()
    note = Inbox._note
    monkeypatch.setattr(
        Inbox,
        "_note",
        lambda self, name, *, closed: (told.add(name), note(self, name, closed=closed)),
    )

    def wanted(arrivals):
        return (each for each in arrivals if each.name not in taken)

    inbox = Inbox(inputs, ".txt", wanted, poll_interval_s=1)
    too_late = threading.Timer(DEADLINE_S, inbox.stop)
    too_late.start()
    with inbox:
        assert inbox.batch(wait=False) == []
        move_all(ready, inputs)
        while len(taken) < count:
            batch = inbox.batch()
            assert batch is not None, f"{len(taken)} files were found"
            assert not taken.keys() & {each.name for each in batch}
            taken.update((each.name, each) for each in batch)
    too_late.cancel()
    print(f"{len(told)} of {count} files had an event")
    assert len(told) < count, "no event was lost: that shows nothing"
    assert set(taken) == {f"f{number:05}.txt" for number in range(count)}


def test_thousands_of_files_moved_in_at_once_are_all_done_once(flow):
    flow.add_module(COPY)
    flow.write(WORK)
    ready = make_files(flow.root / "ready", 2500)
    process = flow.watch()
    flow.until_said("Starting pipeline execution")
    # It watches a moment later; a file shows that it does.
    flow.add_inputs("first")
    flow.until("work/first.out")
    with no_events(process, flow.inputs):
        move_all(ready, flow.inputs)
    started = time.monotonic()
    wait_until(lambda: len(flow.names("work")) == 2501)
    print(f"2,500 files in {time.monotonic() - started:.1f} s")
    assert flow.stop(process) == 130
    assert len(flow.noted()) == 2501
    assert flow.texts("work")["f02499.out"] == "2499"
