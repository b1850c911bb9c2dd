"""Stop the workers of an earlier service, which died.

A new worker must neither get a file that one of them still has, nor run beside them.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path

from tigerflow.files import remove_temporaries_of
from tigerflow.log import logger
from tigerflow.rundir.layout import (
    MAILBOXES,
    STATE,
    RunLayout,
    job_number,
)
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.workers.dispatch.mailbox_poller import PolledMailbox
from tigerflow.workers.dispatch.slurm import Queue, cancel
from tigerflow.workers.mailbox import has_begun, keep_prints, owner_of_others
from tigerflow.workers.protocol import Left, Started, Stop

#: Seconds between looks at them.
LOOK_S = 0.5

#: Seconds to wait when the file server has not answered.
PAUSE_S = 5.0

#: Where outputs go that are not kept.
_HIDDEN = STATE / "tasks"


async def stop_earlier_workers(run_dir: Path, settings: Settings) -> None:
    """Return when no worker of an earlier service works in `run_dir` any more."""
    while True:
        try:
            await _stop_all(run_dir, settings)
        except OSError as error:
            # Nothing may start beside them: a file server that does not answer is
            # asked again.
            logger.warning(
                "Cannot look for worker jobs of an earlier service: {}", error
            )
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def _stop_all(run_dir: Path, settings: Settings) -> None:
    if await in_thread(owner_of_others, run_dir) is not None:
        # This user can do nothing about them, and start none: see `JobLauncher`.
        return
    tasks = await in_thread(_directories, run_dir / MAILBOXES)
    stops, queue = [], Queue()
    for task in tasks:
        jobs = await in_thread(_directories, task)
        await _cancel_unnumbered(jobs, queue)
        # A pipeline's results; those of a task by itself are in the run directory.
        places = [run_dir, run_dir / task.name, run_dir / _HIDDEN / task.name]
        log = RunLayout(run_dir).task_log(task.name)
        stops += [_stop_job(job, places, log, settings) for job in jobs]
    if stops:
        logger.info("Stopping {} worker jobs of an earlier service", len(stops))
        await asyncio.gather(*stops)


async def _stop_job(
    job: Path, places: list[Path], log: Path, settings: Settings
) -> None:
    """Stop the workers of a job, wait for their end, and remove what they left.

    Each ends within its grace time, or when it misses the service's pulse. It counts as
    dead when it shows no sign of life for as long.
    """
    boxes = await in_thread(_directories, job)
    lost_s = settings.worker_lost_timeout
    workers = [_EarlierWorker(box, lost_s) for box in boxes]
    await cancel_job(job)
    while not all(each.is_gone for each in workers):
        for each in workers:
            await in_thread(each.look)
        # A job that has not begun will find no mailbox, and end.
        if not await in_thread(has_begun, job):
            break
        await asyncio.sleep(LOOK_S)
    for each in workers:
        if (who := each.started) is not None:
            for place in places:
                await in_thread(remove_temporaries_of, place, who.pid, who.host)
    for box in boxes:
        await in_thread(keep_prints, box, log)
    await in_thread(shutil.rmtree, job, ignore_errors=True)


class _EarlierWorker:
    """A worker of an earlier service; it is asked to stop."""

    def __init__(self, mailbox: Path, lost_s: float) -> None:
        self.started: Started | None = None
        self.is_gone = False
        self._lost_s = lost_s
        self._polled = PolledMailbox(mailbox, lambda _: None, lost_s=lost_s)
        self._polled.post(Stop())

    def look(self) -> None:
        """Look into its mailbox."""
        delivery = self._polled.exchange()
        if delivery is None:
            return
        for message in delivery.messages:
            if isinstance(message, Started):
                self.started = message
            self.is_gone |= isinstance(message, Left)
        self.is_gone |= (
            delivery.exit_code is not None or delivery.still_s > self._lost_s
        )


async def cancel_job(job: Path) -> None:
    """Cancel a job in Slurm, if its number is known."""
    number = await in_thread(_read, job_number(job))
    if number.isdigit():
        await cancel([number])


async def _cancel_unnumbered(jobs: list[Path], queue: Queue) -> None:
    """Cancel jobs that Slurm accepted just before the service died."""
    names = [job.name for job in jobs if not job_number(job).exists()]
    if names and queue.is_here:
        live = (await queue.look(LOOK_S) or {}).values()
        await cancel([job.number for job in live if job.is_any_of(names)])


def note_number(job: Path, number: str) -> None:
    """Note the scheduler's number of a job, by which a later service can cancel it."""
    with contextlib.suppress(OSError):
        path = job_number(job)
        path.touch(mode=0o600)
        path.write_text(number, encoding="ascii")


def _directories(place: Path) -> list[Path]:
    return [path for path in place.glob("*") if path.is_dir()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
