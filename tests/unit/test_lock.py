"""One service a run directory."""

import json
import os
import subprocess
import sys
import time

import pytest

from tigerflow import lock as lock_module
from tigerflow.errors import RunningError
from tigerflow.lock import BEAT_S, RunLock, find_running, read_holder

HOLD = """
import sys
from pathlib import Path
from tigerflow.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_is_held_once_and_given_back(tmp_path):
    with RunLock(tmp_path):
        holder = find_running(tmp_path)
        assert (holder.pid, holder.is_here) == (os.getpid(), True)
        with pytest.raises(RunningError, match=rf"pid {os.getpid()} on "):
            RunLock(tmp_path).__enter__()
    assert find_running(tmp_path) is None
    with RunLock(tmp_path):
        pass


def test_lock_of_a_killed_process_is_free(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        assert find_running(tmp_path).pid == process.pid
        process.kill()
        process.wait()
    # Its id may be another process's by now, as that of this one is.
    record = json.loads((tmp_path / "run.pid").read_text())
    (tmp_path / "run.pid").write_text(json.dumps(record | {"pid": os.getpid()}))
    assert find_running(tmp_path) is None
    with RunLock(tmp_path):
        assert find_running(tmp_path).pid == os.getpid()


def test_lock_of_another_host_counts_while_it_shows_that_it_lives(tmp_path):
    path = tmp_path / "run.pid"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    assert find_running(tmp_path).host == "elsewhere"
    with pytest.raises(RunningError, match="pid 1 on elsewhere"):
        RunLock(tmp_path).__enter__()
    old = time.time() - 4 * BEAT_S
    os.utime(path, (old, old))
    assert find_running(tmp_path) is None
    with RunLock(tmp_path) as lock:
        lock.beat()
        assert read_holder(path).is_here


def test_of_two_hosts_that_see_no_lock_one_alone_gets_it(tmp_path, monkeypatch):
    # The other one writes its `run.pid` when this one has just looked for it.
    def look(path):
        monkeypatch.undo()
        path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))

    monkeypatch.setattr(lock_module, "read_holder", look)
    with pytest.raises(RunningError, match="pid 1 on elsewhere"):
        RunLock(tmp_path).__enter__()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["answers", "requests", "run.lock", "run.pid"]
    assert read_holder(tmp_path / "run.pid").host == "elsewhere"


def test_clock_of_this_host_does_not_make_another_hosts_service_dead(
    tmp_path, monkeypatch
):
    with RunLock(tmp_path):
        pass
    path = tmp_path / "run.pid"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    monkeypatch.setattr(time, "time", lambda: path.stat().st_mtime + 3600)
    assert find_running(tmp_path).host == "elsewhere"
    with pytest.raises(RunningError, match="pid 1 on elsewhere"):
        RunLock(tmp_path).__enter__()


@pytest.mark.parametrize("text", ["", "1", "{}", '{"pid": "x", "host": 1}'])
def test_run_pid_that_makes_no_sense_is_nobodys(tmp_path, text):
    (tmp_path / "run.pid").write_text(text)
    assert find_running(tmp_path) is None
    with RunLock(tmp_path):
        assert find_running(tmp_path).pid == os.getpid()


def test_beat_without_the_file_harms_nothing(tmp_path):
    with RunLock(tmp_path) as lock:
        (tmp_path / "run.pid").unlink()
        lock.beat()
