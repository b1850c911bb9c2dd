"""The worker host of a run directory: takes files from clients, gives them to pools.

    python -P -m tigerflow.workers.dispatch.host LISTENER_DESCRIPTOR

The first client of a run starts it in the run directory. It ends, with all workers,
when every Snakemake that sent it a file has ended, when it is stopped, or when it has
been idle for long. Only its owner can talk to it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tigerflow.errors import ExitCode, OutputDirectoryError, is_outage
from tigerflow.faults import begin, end_on_faults
from tigerflow.log import configure, logger
from tigerflow.naming import error_name
from tigerflow.rundir.layout import HOST_LOG, error_directory, worker_file
from tigerflow.settings import Settings
from tigerflow.tasks.children import heed_interrupts
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers import client
from tigerflow.workers.dispatch.address import KEEP_S, Address, only_generation
from tigerflow.workers.dispatch.fleet import Fleet
from tigerflow.workers.dispatch.members import WorkerListener, ignore
from tigerflow.workers.dispatch.pool import Load
from tigerflow.workers.dispatch.runs import Runs
from tigerflow.workers.dispatch.scheduler import Submit
from tigerflow.workers.dispatch.sessions import Sessions
from tigerflow.workers.protocol import Answer, Fate

#: How often a host without a service looks whether it is idle, in seconds, at most.
IDLE_LOOK_S = 10


@dataclass(frozen=True)
class ServiceHooks:
    """What a host that is part of a service asks it, and reports to it."""

    #: Called with a file's task, its job, and what became of it.
    answered: Callable[[WorkerTask, FileJob, Answer], None]
    #: Called with each change of a worker.
    on_worker: WorkerListener
    #: Whether a process of this id may send files; a Snakemake of the user's may not.
    admits: Callable[[int], bool]
    #: Waits until those that the service has started earlier have sent their files.
    turn: Callable[[int], Awaitable[None]]
    #: The place of a stem among all files: earlier ones are begun first.
    place: Callable[[str], int]


class Host:
    """Serves the clients of the current directory, a run directory."""

    def __init__(
        self,
        listener: socket.socket,
        settings: Settings,
        service: ServiceHooks | None = None,
        submit: Submit | None = None,
    ) -> None:
        """Serve those who connect to `listener`.

        `submit` submits the workers of Slurm tasks as jobs. Without it, they are child
        processes: this host is in a job already, or there is no scheduler.

        With a `service`, the host ends only when the service calls `stop`.
        """
        self._service = service
        self._listener = listener
        self._address = Address(listener.getsockname())
        self._settings = settings
        self._run_dir = Path.cwd()
        self._fleet = Fleet(
            *(self._run_dir, settings, self._address.alive, submit),
            on_worker=ignore if service is None else service.on_worker,
            retries_here=service is not None,
        )
        self._sessions = Sessions(self)
        self._runs = Runs(self.stop)
        #: The tasks that were read, by file, date and inode.
        self._tasks: dict[tuple[Path, int, int], WorkerTask] = {}
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        #: What has happened that nobody expected, and ends it.
        self.fault: Exception | None = None

    async def serve(self) -> None:
        """Serve until it is over, then stop all workers."""
        if self._service is None:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self.stop)
            end_on_faults(self._fail)
        self._fleet.start()
        await self._sessions.listen(self._listener)
        looking = [begin(self._watch_idleness()), begin(self._keep_address())]
        await self._over.wait()
        for look in looking:
            look.cancel()
        self._address.withdraw()
        self._sessions.stop_listening()
        self._runs.close()
        await self._fleet.stop()
        self._fleet.show_end()
        for problem in self._fleet.problems:
            logger.error("{}", problem)
        self._ended.set()
        await self._sessions.close()

    async def _keep_address(self) -> None:
        """Stay reachable, and let workers start, whatever is cleaned outside."""
        while True:
            await asyncio.sleep(KEEP_S)
            # What cannot be made for now can be made later.
            with contextlib.suppress(OSError):
                listener = self._address.keep()
                if listener is None:
                    continue
                logger.warning("The workers' socket was removed; created it again")
                await self._sessions.listen(listener)

    async def _watch_idleness(self) -> None:
        while self._service is None:
            await asyncio.sleep(min(IDLE_LOOK_S, self._settings.worker_idle_timeout))
            # Pools let their workers go after the idle time; then the host may go. One
            # whose task cannot run stays, so that it isn't tried for every file.
            is_idle = self._sessions.is_idle and self._fleet.is_idle
            if is_idle and not self._fleet.stuck:
                self.stop()

    def _fail(self, error: Exception) -> None:
        """End because of what nobody expected; the files that wait get an answer."""
        if self.fault is None:
            self.fault = error
            logger.opt(exception=error).error("Internal error")
        self._fleet.fail(f"internal error: {error!r}", HOST_LOG)
        self.stop()

    # For the service that it is part of.

    def stop(self) -> None:
        """Make `serve` stop all workers and return; their files are given up."""
        self._over.set()

    def drain(self) -> None:
        """Take no more files; those that workers have are finished."""
        self._fleet.drain()

    def kill(self) -> list[int]:
        """Kill all workers at once, without teardown; return their process ids."""
        return self._fleet.kill()

    def abandon(self) -> None:
        """Remove what a host leaves, but for jobs: nobody serves it."""
        self._address.abandon()
        self._fleet.abandon()

    @property
    def stuck(self) -> dict[str, str]:
        """The tasks that cannot run, with the reason."""
        return self._fleet.stuck

    @property
    def loads(self) -> dict[str, Load]:
        """What the workers of each task are working on."""
        return self._fleet.loads

    @property
    def crowded(self) -> frozenset[str]:
        """The tasks that have more files than their workers take at once."""
        return self._fleet.crowded

    # For its sessions: see `RequestHandler`.

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no requests any more."""
        return self._over.is_set()

    def refusal_of(self, pid: int) -> str | None:
        """Return why a process may send no request: the service has the directory."""
        is_welcome = self._service is None or self._service.admits(pid)
        return None if is_welcome else client.BESIDE

    async def wait_for_turn(self, pid: int) -> None:
        """Return when a process may send its files."""
        if self._service is not None:
            await self._service.turn(pid)

    def watch_run(self, pid: int) -> None:
        """Stay until a process, a Snakemake, has ended."""
        if self._service is None:
            self._runs.watch(pid)

    async def stop_and_wait(self) -> list[str]:
        """Stop all workers and wait; return what went wrong at teardown."""
        self.stop()
        await self._ended.wait()
        return self._fleet.problems

    async def wait_for_stop(self) -> None:
        """Return when it begins to stop."""
        await self._over.wait()

    async def process(
        self, workflow_dir: Path, task: str, input_file: str, output_file: str
    ) -> Answer:
        """Process one file and return what became of it.

        Args:
            workflow_dir: where the compiled workflow has the task's description.
            task: the name of the task.
            input_file: relative to the run directory, as the output.
            output_file: the result.
        """
        try:
            described = self._read_task(workflow_dir / worker_file(task))
        except (OSError, ValueError, TypeError) as error:
            if isinstance(error, OSError) and is_outage(error):
                return _blocked(OutputDirectoryError(self._run_dir, error))
            message = f"{error}; run `tigerflow compile` again"
            return Answer(0, Fate.UNDONE, message)
        job = _job(described, input_file, output_file)
        answer = await self._process(described, job)
        if self._service is not None:
            self._service.answered(described, job, answer)
        return answer

    async def _process(self, task: WorkerTask, job: FileJob) -> Answer:
        try:
            pool = self._fleet.pool(task, {job.output.parent, job.error.parent})
        except OutputDirectoryError as error:
            return _blocked(error)
        except OSError as error:
            return _blocked(OutputDirectoryError(self._run_dir, error))
        place = None
        if self._service is not None:
            place = self._service.place(_stem(task, job.output))
        return await pool.process(job, place)

    def _read_task(self, path: Path) -> WorkerTask:
        status = path.stat()
        version = (path, status.st_mtime_ns, status.st_ino)
        if version not in self._tasks:
            task = WorkerTask.from_json(path.read_text(encoding="utf-8"))
            self._tasks[version] = task
        return self._tasks[version]


def _blocked(error: OutputDirectoryError) -> Answer:
    return Answer(0, Fate.BLOCKED, str(error), is_outage=error.is_outage)


def _job(task: WorkerTask, input_file: str, output_file: str) -> FileJob:
    output = Path(output_file)
    error = error_directory(task.name) / error_name(_stem(task, output))
    return FileJob(Path(input_file), output, error)


def _stem(task: WorkerTask, output: Path) -> str:
    return output.name.removesuffix(task.output_ext)


@contextlib.contextmanager
def inherited(descriptor: str) -> Iterator[socket.socket]:
    """Have the listener of that descriptor, once no earlier host's worker lives."""
    configure()
    heed_interrupts()
    # It names this job; what a task submits is another.
    os.environ.pop(client.JOB, None)
    with socket.socket(fileno=int(descriptor)) as listener, only_generation(listener):
        yield listener


async def serve(listener: socket.socket, submit: Submit | None = None) -> ExitCode:
    """Be the host of those who connect to `listener`; see `Host`."""
    host = Host(listener, Settings.from_environment(), submit=submit)
    await host.serve()
    return ExitCode.DONE if host.fault is None else ExitCode.FAILED


def main() -> ExitCode:
    """Serve the listener whose descriptor is the first argument."""
    with inherited(sys.argv[1]) as listener:
        return asyncio.run(serve(listener))


if __name__ == "__main__":
    sys.exit(main())
