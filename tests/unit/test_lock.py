"""One service a run directory."""

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from runs import wait_until

from tigerflow.errors import RunningError
from tigerflow.rundir import lock as lock_module
from tigerflow.rundir.lock import BEAT_S, RunLock, find_running, read_holder
from tigerflow.rundir.requests import Request, ask, is_answered

HOLD = """
import sys
from pathlib import Path
from tigerflow.rundir.lock import RunLock
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


@pytest.mark.parametrize(
    "text", ["", "-1", "{}", "true", "[" * 3000, '{"pid": "x", "host": 1}']
)
def test_malformed_run_pid_has_no_owner(tmp_path, text):
    (tmp_path / "run.pid").write_text(text)
    assert find_running(tmp_path) is None
    with RunLock(tmp_path):
        assert find_running(tmp_path).pid == os.getpid()


def test_beat_without_the_file_harms_nothing(tmp_path):
    with RunLock(tmp_path) as lock:
        (tmp_path / "run.pid").unlink()
        lock.beat()


def test_pipeline_of_the_dask_based_tigerflow_is_found_and_keeps_others_out(tmp_path):
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "tigerflow", "run"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as pipeline:
        # Its number, and nothing else.
        (tmp_path / "run.pid").write_text(str(pipeline.pid))
        holder = wait_until(lambda: find_running(tmp_path))
        with pytest.raises(RunningError) as caught:
            RunLock(tmp_path).__enter__()
        pipeline.stdin.close()
    assert (holder.pid, holder.is_here) == (pipeline.pid, True)
    end = f"is running; end it: tigerflow stop {tmp_path.parent}"
    assert str(caught.value).endswith(end)
    assert find_running(tmp_path) is None
    with pytest.raises(RunningError, match=f"start again: rm {tmp_path}/run.pid"):
        RunLock(tmp_path).__enter__()
    (tmp_path / "run.pid").unlink()
    with RunLock(tmp_path):
        pass


def test_service_of_another_host_is_named_with_the_time_it_may_take(tmp_path):
    (tmp_path / "run.pid").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(RunningError) as caught:
        RunLock(tmp_path).__enter__()
    said = re.fullmatch(
        r"Pipeline is already running \(pid 1 on elsewhere\); if it was killed, "
        r"it can be started here in (\d+) s",
        str(caught.value),
    )
    assert 0 < int(said[1]) <= 3 * BEAT_S


def test_file_system_without_locks_is_named_as_such(tmp_path, monkeypatch):
    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_module.fcntl, "flock", refuse)
    with pytest.raises(RunningError) as caught:
        RunLock(tmp_path).__enter__()
    assert str(caught.value) == (
        f"Cannot lock {tmp_path}/run.lock: No locks available. The file system has no "
        "flock: mount it with locks, or use an output directory on another one"
    )


@pytest.mark.parametrize(
    ("request_", "signals"),
    [
        (Request.STOP, [signal.SIGTERM]),
        (Request.STOP_AT_ONCE, [signal.SIGTERM, signal.SIGINT]),
    ],
)
def test_request_to_stop_has_the_signals_of_a_stop_on_this_host(
    tmp_path, monkeypatch, request_, signals
):
    sent = []
    monkeypatch.setattr(lock_module, "LOOK_S", 0.01)

    async def look_after(lock):
        looking = asyncio.create_task(lock.look_after())
        number = ask(tmp_path, request_)
        while not is_answered(tmp_path, number):  # noqa: ASYNC110 -- a file
            await asyncio.sleep(0.01)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    # They would end the tests.
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    with RunLock(tmp_path) as lock:
        asyncio.run(asyncio.wait_for(look_after(lock), 120))
    assert sent == [(os.getpid(), number) for number in signals]


@pytest.mark.parametrize("takes", [True, False])
def test_retry_request_is_answered_only_when_files_are_queued(
    tmp_path, monkeypatch, takes
):
    monkeypatch.setattr(lock_module, "LOOK_S", 0.01)
    asked = asyncio.Event()

    def retry():
        asked.set()
        return takes

    async def look_after(lock):
        looking = asyncio.create_task(lock.look_after(retry))
        number = ask(tmp_path, Request.RETRY)
        await asked.wait()
        last = ask(tmp_path, Request.RETRY)
        while takes and not is_answered(tmp_path, last):  # noqa: ASYNC110 -- a file
            await asyncio.sleep(0.01)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        return number

    with RunLock(tmp_path) as lock:
        number = asyncio.run(asyncio.wait_for(look_after(lock), 120))
    assert is_answered(tmp_path, number) is takes
