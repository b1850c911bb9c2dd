"""Run the workers of a scheduler's job, one per mailbox, until all have ended.

    python -P -m tigerflow.workers.process.job OUT/.tigerflow/mailboxes/TASK/JOB

Several workers of one job divide its GPUs among them. The setup commands run once per
worker; their output goes to its mailbox, with the worker's own. This process reports
that a worker has started, beats its pulse, and notes how it ended. A worker leaves when
its service is gone; one that cannot, for example in a setup command, is killed.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from tigerflow.files import write_over
from tigerflow.rundir.layout import (
    MAILBOX_EXIT,
    MAILBOX_INBOX,
    MAILBOX_LOG,
    MAILBOX_OUTBOX,
    MAILBOX_PULSE,
    exit_text,
    job_begun,
    job_end,
    pulse_of,
)
from tigerflow.settings import Settings
from tigerflow.shortage import start_thread
from tigerflow.tasks.children import heed_interrupts
from tigerflow.tasks.shell.environment import in_container
from tigerflow.tasks.shell.launch import (
    launch_environment,
    setup_script,
    starting_directory,
)
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.protocol import SUSPENDS, WARNS, Started, Stop, decode, encode
from tigerflow.workers.pulse import BEATS_PER_TIMEOUT, Pulse, PulseWatch

#: What CUDA and ROCm read to find which GPUs a process may use.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def main(job: Path) -> int:
    """Run the workers; return the first exit code that is not 0."""
    heed_interrupts()
    # Only of this process: the workers make results, with the umask of the user.
    umask = os.umask(0o077)
    mailboxes = sorted(job.glob("[0-9]*"), key=lambda path: int(path.name))
    if not mailboxes:
        return _refuse(f"{job} is gone: this worker is no longer needed")
    try:
        job_begun(job).touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        # Other workers have its files by now.
        return _refuse(f"{job} has run before: its scheduler has started it again")
    if any(_is_stopped(mailbox) for mailbox in mailboxes):
        for mailbox in mailboxes:
            write_over(mailbox / MAILBOX_EXIT, exit_text(0))
        job_end(job).touch()
        return 0
    # The last job may have fewer workers than its allocation is for.
    count = max(len(mailboxes), _read_task(mailboxes[0]).workers_per_job)
    workers = {
        _start(mailbox, _share(number, count), umask): mailbox
        for number, mailbox in enumerate(mailboxes)
    }
    _forward_signals([*workers])
    watching = threading.Thread(target=_look_after, args=(workers,), daemon=True)
    start_thread(watching)
    code = _wait(workers)
    if code == 0:
        job_end(job).touch()
    return code


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)  # noqa: T201 -- the job's log
    return 1


def _start(
    mailbox: Path, variables: Mapping[str, str], umask: int
) -> "subprocess.Popen[bytes]":
    task = _read_task(mailbox)
    commands, python = task.setup_commands, sys.executable
    if commands or task.container:
        # The one of the environment that they activate; ours if they activate none.
        python = "python"
    program = [python, "-P", "-m", "tigerflow.workers.process.remote", str(mailbox)]
    end = _end_of_job(task.wall_time)
    if end is not None:
        program.append(str(end))
    program = in_container(task.container, program)
    with (mailbox / MAILBOX_LOG).open("ab") as log:
        worker = subprocess.Popen(
            setup_script(commands, program),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=starting_directory(task.home, mailbox.parents[4]),
            env={**launch_environment(), **variables},
            start_new_session=True,
            umask=umask,
        )
    _report_start(mailbox, worker.pid, end)
    return worker


def _report_start(mailbox: Path, pid: int, end: float | None) -> None:
    message = Started(
        host=socket.gethostname(),
        pid=pid,
        job=os.environ.get("SLURM_JOB_ID", ""),
        ends_at=end,
        node=os.environ.get("SLURMD_NODENAME", ""),
    )
    # The worker appends to it too, but on the same host, where lines stay whole.
    with (mailbox / MAILBOX_OUTBOX).open("ab", buffering=0) as outbox:
        outbox.write(encode(message))


def _end_of_job(wall_time: float | None) -> float | None:
    """Return when this job must have ended, in seconds since the epoch.

    Newer versions of Slurm say when; otherwise the job counts as begun just now.
    """
    with contextlib.suppress(KeyError, ValueError):
        return float(os.environ["SLURM_JOB_END_TIME"])
    return None if wall_time is None else time.time() + wall_time


def _look_after(workers: "Mapping[subprocess.Popen[bytes], Path]") -> None:
    """Beat the pulses of live workers, and kill workers whose service is gone.

    Runs in a thread of its own.
    """
    settings = Settings.from_environment()
    pause_s = settings.worker_lost_timeout / BEATS_PER_TIMEOUT
    # Before that, they leave by themselves.
    patience_s = settings.worker_lost_timeout + settings.worker_grace + pause_s
    pulses = {worker: Pulse(box / MAILBOX_PULSE) for worker, box in workers.items()}
    lost_s = settings.worker_lost_timeout
    service = PulseWatch(pulse_of(next(iter(workers.values()))), lost_s)
    never = threading.Event()
    while not never.wait(pause_s):
        is_alone = service.still_s() > patience_s
        for worker, pulse in pulses.items():
            if worker.returncode is not None:
                continue
            with contextlib.suppress(OSError):
                pulse.beat()
            if is_alone:
                _signal(worker, signal.SIGKILL)


def _signal(worker: "subprocess.Popen[bytes]", signum: int) -> None:
    """Send a signal to a worker, and to all that it started."""
    # It may have ended a moment ago.
    with contextlib.suppress(ProcessLookupError):
        if worker.returncode is None:
            os.killpg(worker.pid, signum)


def _is_stopped(mailbox: Path) -> bool:
    with (mailbox / MAILBOX_INBOX).open("rb") as inbox:
        return any(isinstance(decode(line), Stop) for line in inbox)


def _read_task(mailbox: Path) -> WorkerTask:
    """Return the description of the task, the first message."""
    with (mailbox / MAILBOX_INBOX).open("rb") as inbox:
        task = decode(inbox.readline())
    assert isinstance(task, WorkerTask)  # noqa: S101 -- the protocol says so
    return task


def _share(number: int, count: int) -> dict[str, str]:
    """Return the variables that name the GPUs of one worker of several."""
    shares = {}
    for variable in _GPU_VARIABLES:
        devices = [d for d in os.environ.get(variable, "").split(",") if d]
        if count > 1 and devices:
            each = max(len(devices) // count, 1)
            first = number * each % len(devices)
            shares[variable] = ",".join(devices[first : first + each])
    return shares


def _forward_signals(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Pass signals to this process on to the workers."""

    def forward(signum: int, _frame: FrameType | None) -> None:
        for worker in workers:
            _signal(worker, signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, forward)
    signal.signal(WARNS, lambda _, frame: forward(signal.SIGTERM, frame))
    signal.signal(SUSPENDS, lambda *_: None)


def _wait(workers: "Mapping[subprocess.Popen[bytes], Path]") -> int:
    """Wait for all, and note how each ended; return the first code but 0."""
    left = {worker.pid: worker for worker in workers}
    first = 0
    while left:
        pid, status = os.wait()
        worker = left.pop(pid, None)
        if worker is None:
            continue
        worker.returncode = code = os.waitstatus_to_exitcode(status)
        # Processes that the task started and did not end are killed with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        # If it cannot be stored, the pulse that stops shows it too.
        with contextlib.suppress(OSError):
            write_over(workers[worker] / MAILBOX_EXIT, exit_text(code))
        first = first or (code if code >= 0 else 128 - code)
    return first


if __name__ == "__main__":
    sys.exit(main(Path(os.path.abspath(sys.argv[1]))))  # noqa: PTH100 -- as the others call it
