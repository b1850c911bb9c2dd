"""What a scheduler's job runs: the workers of its mailboxes, until all have ended.

    python -P -m tigerflow.workers.job OUT/.tigerflow/mailboxes/TASK/JOB

Several workers of one job share its GPUs: each sees its own. The setup commands run
for each worker, with their output in its mailbox, as the worker's.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tigerflow.files import write_atomic
from tigerflow.layout import MAILBOX_EXIT, MAILBOX_INBOX, MAILBOX_LOG, job_end
from tigerflow.tasks.launch import launch_environment, setup_script

#: What CUDA and ROCm read to find which GPUs a process may use.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def main(job: Path) -> int:
    """Run the workers; return the first exit code that is not 0."""
    mailboxes = sorted(job.glob("[0-9]*"), key=lambda path: int(path.name))
    if not mailboxes:
        print(f"{job} is gone: nobody needs this worker any more", file=sys.stderr)  # noqa: T201 -- the job's log
        return 1
    if any(_is_stopped(mailbox) for mailbox in mailboxes):
        for mailbox in mailboxes:
            write_atomic(mailbox / MAILBOX_EXIT, "0")
        job_end(job).touch()
        return 0
    count = len(mailboxes)
    workers = {
        _start(mailbox, _share(number, count)): mailbox
        for number, mailbox in enumerate(mailboxes)
    }
    _forward_signals([*workers])
    code = _wait(workers)
    if code == 0:
        job_end(job).touch()
    return code


def _start(mailbox: Path, variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    run_dir, task = mailbox.parents[4], _read_task(mailbox)
    commands, python = [*task["setup_commands"]], sys.executable
    if commands:
        # That of the environment they activate, and ours when they activate none.
        python = "python"
        commands.append(f"cd {shlex.quote(str(run_dir))}")
    program = [python, "-P", "-m", "tigerflow.workers.remote", str(mailbox)]
    with (mailbox / MAILBOX_LOG).open("ab") as log:
        return subprocess.Popen(
            setup_script(commands, program),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=task["working_dir"] or run_dir,
            env={**launch_environment(), **variables},
            start_new_session=True,
        )


def _is_stopped(mailbox: Path) -> bool:
    # Not by the protocol: that imports more than is needed here.
    with (mailbox / MAILBOX_INBOX).open("rb") as inbox:
        return any(json.loads(line)["type"] == "Stop" for line in inbox)


def _read_task(mailbox: Path) -> Mapping[str, Any]:
    # Not by the protocol: that imports more than is needed here.
    with (mailbox / MAILBOX_INBOX).open("rb") as inbox:
        task: Mapping[str, Any] = json.loads(inbox.readline())
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
    """What this process is told to do, the workers are told as well."""

    def forward(signum: int, _frame: FrameType | None) -> None:
        for worker in workers:
            if worker.returncode is None:
                os.killpg(worker.pid, signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, forward)


def _wait(workers: "Mapping[subprocess.Popen[bytes], Path]") -> int:
    """Wait for all, and tell of each how it ended; return the first code but 0."""
    left = {worker.pid: worker for worker in workers}
    first = 0
    while left:
        pid, status = os.wait()
        worker = left.pop(pid, None)
        if worker is None:
            continue
        worker.returncode = code = os.waitstatus_to_exitcode(status)
        # What a task started and did not end goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        write_atomic(workers[worker] / MAILBOX_EXIT, str(code))
        first = first or (code if code >= 0 else 128 - code)
    return first


if __name__ == "__main__":
    sys.exit(main(Path(os.path.abspath(sys.argv[1]))))  # noqa: PTH100 -- as the others call it
