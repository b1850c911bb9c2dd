"""What a scheduler's job runs: the workers of its mailboxes, until all have ended.

    python -P -m tigerflow.workers.job MAILBOX...

Several workers of one job share its GPUs: each sees its own. The setup commands run
for each worker, with their output in its mailbox, as the worker's.
"""

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

from tigerflow.layout import MAILBOX_INBOX, MAILBOX_LOG
from tigerflow.tasks.launch import launch_environment, setup_script

#: What CUDA and ROCm read to find which GPUs a process may use.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def main(mailboxes: Sequence[Path]) -> int:
    """Run the workers; return the first exit code that is not 0."""
    told = _read_task(mailboxes[0])
    run_dir = mailboxes[0].parents[3]
    workers = []
    for number, mailbox in enumerate(mailboxes):
        commands, python = [*told["setup_commands"]], sys.executable
        if commands:
            # That of the environment they activate, and ours when they activate none.
            python = "python"
            commands.append(f"cd {shlex.quote(str(run_dir))}")
        program = [python, "-P", "-m", "tigerflow.workers.remote", str(mailbox)]
        environment = launch_environment() | _share(number, len(mailboxes))
        with (mailbox / MAILBOX_LOG).open("ab") as log:
            worker = subprocess.Popen(
                setup_script(commands, program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=run_dir,
                env=environment,
                start_new_session=True,
            )
        workers.append(worker)
    return _wait(workers)


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


def _wait(workers: "Sequence[subprocess.Popen[bytes]]") -> int:
    """Wait for all; what this process is told to do, they are told as well."""

    def forward(signum: int, _frame: FrameType | None) -> None:
        for worker in workers:
            if worker.returncode is None:
                os.killpg(worker.pid, signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, forward)
    codes = [worker.wait() for worker in workers]
    for worker in workers:
        # What a task started and did not end goes with it.
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main([Path(os.path.abspath(word)) for word in sys.argv[1:]]))  # noqa: PTH100 -- as the others call it
