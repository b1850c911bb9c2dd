"""What is tried again when the system is short of threads or processes."""

import asyncio
import errno
import threading
from dataclasses import replace

import pytest
from playing import TASK

from tigerflow import shortage as module
from tigerflow.rundir.layout import RunLayout
from tigerflow.shortage import in_thread, is_shortage, start_thread
from tigerflow.workers.dispatch import local
from tigerflow.workers.dispatch.link import LaunchError
from tigerflow.workers.dispatch.local import LocalLauncher

NO_THREAD = "can't start new thread"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.001)


class RareThread(threading.Thread):
    """A thread that cannot be started at the first tries."""

    failures = 0

    def start(self):
        if RareThread.failures:
            RareThread.failures -= 1
            raise RuntimeError(NO_THREAD)
        super().start()


def test_thread_is_started_when_there_is_one_again():
    RareThread.failures = 3
    ran = threading.Event()

    start_thread(RareThread(target=ran.set))

    assert ran.wait(60)


def test_other_errors_of_a_start_are_raised():
    thread = threading.Thread(target=int)
    thread.start()

    with pytest.raises(RuntimeError, match="only be started once"):
        start_thread(thread)


def test_function_is_called_once_however_long_threads_are_short(monkeypatch):
    # The system cannot be made short of threads for one test alone.
    monkeypatch.setattr(module.threading, "Thread", RareThread)
    RareThread.failures = 3
    calls = []

    def call(number, *, unit):
        calls.append(number)
        return f"{number} {unit}"

    assert asyncio.run(in_thread(call, 3, unit="s")) == "3 s"
    assert calls == [3]


def test_what_a_function_raises_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divmod, 1, 0))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BlockingIOError(errno.EAGAIN, "no process"), True),
        (OSError(errno.ENOMEM, "no memory"), True),
        (OSError(errno.EMFILE, "too many files"), True),
        (RuntimeError(NO_THREAD), True),
        (RuntimeError("something else"), False),
        (FileNotFoundError(errno.ENOENT, "no interpreter"), False),
        (PermissionError(errno.EACCES, "no right"), False),
        (OSError(errno.ENOSPC, "no room"), False),
    ],
)
def test_only_what_passes_is_a_shortage(error, expected):
    assert is_shortage(error) is expected


@pytest.fixture
def launcher(tmp_path):
    task = replace(TASK, threads=0, remote=False)
    RunLayout(tmp_path).task_log("work").parent.mkdir(parents=True)
    return LocalLauncher(task, tmp_path, tmp_path / "alive")


def _refuse(monkeypatch, *errors):
    """Have starts of processes fail, with the last error for ever."""
    left = list(errors)

    async def start(*_words, **_how):
        raise left.pop(0) if len(left) > 1 else left[0]

    # No process: unit tests start none.
    monkeypatch.setattr(local.asyncio, "create_subprocess_exec", start)


def test_start_of_a_worker_that_cannot_work_is_not_tried_again(launcher, monkeypatch):
    short = BlockingIOError(errno.EAGAIN, "no process")
    _refuse(monkeypatch, short, RuntimeError(NO_THREAD), PermissionError("no right"))

    with pytest.raises(LaunchError, match="no right"):
        asyncio.run(launcher.launch())


def test_launcher_that_closes_waits_for_no_process(launcher, monkeypatch):
    _refuse(monkeypatch, BlockingIOError(errno.EAGAIN, "no process"))

    async def launch_and_close():
        launching = asyncio.create_task(launcher.launch())
        await asyncio.sleep(0)
        await launcher.close()
        await launching

    with pytest.raises(LaunchError, match="the run has ended"):
        asyncio.run(launch_and_close())
