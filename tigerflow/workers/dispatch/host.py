"""The worker host of a run directory: takes files from clients, gives them to pools.

    python -P -m tigerflow.workers.dispatch.host LISTENER_DESCRIPTOR

Started by the first client of a run, in the run directory. It ends, with all workers,
as soon as every Snakemake that sent it a file is gone, when it is told to stop, or when
it has been idle for long. Only its owner can talk to it.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tigerflow.errors import ExitCode, OutputDirectoryError, is_outage
from tigerflow.faults import begin, end_on_faults
from tigerflow.files import remove_abandoned_temporaries
from tigerflow.log import configure, logger
from tigerflow.naming import error_name, printable
from tigerflow.rundir.layout import HOST_LOG, error_directory, worker_file
from tigerflow.settings import Settings
from tigerflow.shortage import in_thread
from tigerflow.tasks.children import heed_interrupts
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers import client
from tigerflow.workers.dispatch.address import KEEP_S, Address
from tigerflow.workers.dispatch.earlier import see_off_earlier
from tigerflow.workers.dispatch.jobs import JobLauncher, JobService
from tigerflow.workers.dispatch.link import Launcher
from tigerflow.workers.dispatch.local import LocalLauncher, kill_unknown
from tigerflow.workers.dispatch.lookout import Lookout
from tigerflow.workers.dispatch.members import WorkerListener
from tigerflow.workers.dispatch.pool import Load, TaskPool
from tigerflow.workers.dispatch.postman import Postman
from tigerflow.workers.dispatch.scheduler import Submit
from tigerflow.workers.dispatch.status import FAILED, TaskStatus
from tigerflow.workers.mailbox import remove_empty_mailboxes
from tigerflow.workers.protocol import Answer, Fate

#: Where the kernel cannot tell of a process's end (before Linux 5.3).
RUN_POLL_S = 0.5


@dataclass(frozen=True)
class Patron:
    """The service that a host is part of."""

    #: Told of a file's task, its job, and what became of it.
    answered: Callable[[WorkerTask, FileJob, Answer], None]
    #: Told what becomes of workers.
    on_worker: WorkerListener
    #: Whether a process of this id may send files; a Snakemake of the user's may not.
    admits: Callable[[int], bool]
    #: Waits until those that it has started earlier send their files.
    turn: Callable[[int], Awaitable[None]]
    #: The place of a stem among all files: earlier ones are begun first.
    place: Callable[[str], int]


class Host:
    """Serves the clients of one run directory."""

    def __init__(
        self,
        listener: socket.socket,
        settings: Settings,
        patron: Patron | None = None,
        submit: Submit | None = None,
    ) -> None:
        """Serve those who connect to `listener`.

        Workers of Slurm tasks are jobs that `submit` submits; without it, this process
        starts them itself: it is in a job already, or there is no scheduler.

        With a `patron`, it ends when that calls `stop`, not with the runs that it has
        served, nor because somebody else asks for it.
        """
        self._patron = patron
        self._submit = submit
        self._postman: Postman | None = None
        self._lookout = Lookout()
        #: Done when no worker of an earlier service is left.
        self._earlier: asyncio.Task[None] | None = None
        self._listener = listener
        self._servers: list[asyncio.Server] = []
        self._address = Address(listener.getsockname())
        self._settings = settings
        self._told: dict[tuple[Path, int, int], WorkerTask] = {}
        self._pools: dict[tuple[str, str], TaskPool] = {}
        #: Of pools whose workers are jobs.
        self._statuses: dict[tuple[str, str], TaskStatus] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        self._problems: list[str] = []
        #: What has happened that nobody expected, and ends it.
        self.fault: Exception | None = None
        self._leaving = threading.Lock()
        self._has_left = False

    async def serve(self) -> None:
        """Serve until it is over, then stop all workers."""
        if self._patron is None:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, self._over.set)
            end_on_faults(self._fail)
        await self._listen(self._listener)
        idle = begin(self._watch_idleness())
        keeping = begin(self._keep_address())
        self._see_off_earlier()
        await self._over.wait()
        idle.cancel()
        keeping.cancel()
        self._leave()
        self._close_servers()
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))
        await self._lookout.close()
        if self._postman is not None:
            await in_thread(self._postman.stop)
        for key, pool in self._pools.items():
            self._problems += pool.problems
            if key in self._statuses:
                self._statuses[key].end(FAILED if pool.failure else None)
        for problem in self._problems:
            logger.error("{}", problem)
        self._ended.set()
        if self._talks:
            await asyncio.wait(self._talks, timeout=1)

    async def _listen(self, listener: socket.socket) -> None:
        """Serve those who connect to a listener."""
        server = await asyncio.start_unix_server(
            self._talk, sock=listener, backlog=client.BACKLOG
        )
        self._servers.append(server)

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()

    async def _keep_address(self) -> None:
        """Stay reachable, and let workers start, whatever is cleaned outside."""
        while True:
            await asyncio.sleep(KEEP_S)
            # What cannot be made just now can be later.
            with contextlib.suppress(OSError):
                listener = self._address.keep()
                if listener is None:
                    continue
                logger.warning("The socket of the workers was removed; made it again")
                await self._listen(listener)

    def _see_off_earlier(self) -> None:
        if self._submit is not None:
            see_off = see_off_earlier(Path.cwd(), self._settings)
            self._earlier = begin(see_off)

    def _fail(self, error: Exception) -> None:
        """End because of what nobody expected; the files that wait get an answer."""
        if self.fault is None:
            self.fault = error
            logger.opt(exception=error).error("Internal error")
        for pool in self._pools.values():
            pool.fail(f"internal error: {error!r}", HOST_LOG)
        self._over.set()

    def stop(self) -> None:
        """Make `serve` stop all workers and return; files in hand are given up."""
        self._over.set()

    def kill(self) -> list[int]:
        """Kill all workers at once, without teardown; return their process ids."""
        pools = list(self._pools.values())
        pids = [pid for pool in pools for pid in pool.kill()]
        return pids + kill_unknown(pids)

    def drain(self) -> None:
        """Take no more files; those in hand are finished."""
        for pool in self._pools.values():
            pool.drain()

    @property
    def stuck(self) -> dict[str, str]:
        """The tasks that cannot run, with the reason."""
        pools = {name: pool for (name, _), pool in self._pools.items()}
        return {name: pool.failure for name, pool in pools.items() if pool.failure}

    @property
    def loads(self) -> dict[str, Load]:
        """What the workers of each task have in hand."""
        return {name: pool.load for (name, _), pool in self._pools.items()}

    @property
    def crowded(self) -> frozenset[str]:
        """The tasks that have more files than their workers take at once."""
        pools = self._pools.items()
        return frozenset(name for (name, _), pool in pools if pool.is_crowded)

    def _leave(self) -> None:
        """Take the socket away: who comes now starts a new host.

        Under the lock, so that it is ours that goes, not that of a successor. Once: a
        thread that abandons this host may come while it leaves, or has left.
        """
        path = f"{self._address.path}.lock"
        with self._leaving:
            if self._has_left:
                return
            # What cleans /tmp may have been quicker, and another may be there now.
            with contextlib.suppress(OSError), client.locked(path):
                Path(self._address.path).unlink(missing_ok=True)
                Path(path).unlink()
            self._has_left = True

    def abandon(self) -> None:
        """Remove what a host leaves, but for jobs: nobody serves it."""
        self._leave()
        self._address.alive.unlink(missing_ok=True)
        if self._postman is not None:
            remove_empty_mailboxes(Path.cwd())

    async def _talk(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 -- in a coroutine there is one
        self._talks.add(current)
        try:
            pid, uid = _peer(writer)
            if uid == os.getuid():
                await self._answer(pid, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, client.FrameError):
            pass
        except Exception:  # noqa: BLE001 -- the client sees the end of its connection
            logger.exception("Ended the connection of a client")
        finally:
            self._talks.discard(current)
            writer.close()

    async def _answer(
        self,
        pid: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        request = await _receive(reader)
        stop = request[:1] == [b"stop"]
        if self._patron is not None and not self._patron.admits(pid):
            # The Snakemake of a user, who has a service here.
            _send(writer, [client.REFUSED, client.BESIDE.encode()])
            await writer.drain()
        elif stop:
            _send(writer, [client.ACCEPTED])
            self._over.set()
            await self._ended.wait()
            _send(writer, [b"stopped", *map(os.fsencode, self._problems)])
            await writer.drain()
        elif self._over.is_set():
            # The client starts the next host.
            return
        elif request[:1] == [b"attend"] and client.is_process_id(request[-1]):
            _send(writer, [client.ACCEPTED])
            self._watch_run(int(request[1]))
            await self._over.wait()
        else:
            first = client.RunRequest.of(request)
            if self._patron is not None:
                await self._patron.turn(pid)
            _send(writer, [client.ACCEPTED])
            await self._serve_session(first, reader, writer)

    async def _serve_session(
        self,
        request: client.RunRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Run the files that a connection asks for, until it is closed."""
        works: set[asyncio.Task[None]] = set()
        try:
            while True:
                work = asyncio.create_task(self._run(request, writer))
                works.add(work)
                work.add_done_callback(works.discard)
                request = client.RunRequest.of(await _receive(reader))
        finally:
            # Nobody waits for these any more.
            for work in works:
                work.cancel()

    async def _run(
        self, request: client.RunRequest, writer: asyncio.StreamWriter
    ) -> None:
        workflow_dir, run, task, *paths = map(os.fsdecode, request.words)
        try:
            self._watch_run(int(run))
            answer = await self._process(Path(workflow_dir) / worker_file(task), paths)
        except Exception as error:  # noqa: BLE001 -- whatever it is, somebody waits for an answer
            logger.exception("No answer for {}", printable(paths[0]))
            answer = Answer(0, Fate.UNDONE, f"internal error: {error!r}")
        reply = client.Reply(
            request.number, answer.fate.value, answer.message, answer.started
        )
        _send(writer, reply.fields())

    async def _process(self, told_file: Path, paths: list[str]) -> Answer:
        try:
            told = self._read_worker_task(told_file)
        except (OSError, ValueError, TypeError) as error:
            if isinstance(error, OSError) and is_outage(error):
                return _blocked(OutputDirectoryError(Path.cwd(), error))
            message = f"{error}; run `tigerflow compile` again"
            return Answer(0, Fate.UNDONE, message)
        job = _job(told, *paths)
        try:
            pool = self._pool(told, job)
        except OutputDirectoryError as error:
            return self._tell(told, job, _blocked(error))
        except OSError as error:
            trouble = OutputDirectoryError(Path.cwd(), error)
            return self._tell(told, job, _blocked(trouble))
        place = None
        if self._patron is not None:
            place = self._patron.place(_stem(told, job.output))
        return self._tell(told, job, await pool.process(job, place))

    def _tell(self, told: WorkerTask, job: FileJob, answer: Answer) -> Answer:
        if self._patron is not None:
            self._patron.answered(told, job, answer)
        return answer

    def _read_worker_task(self, path: Path) -> WorkerTask:
        status = path.stat()
        version = (path, status.st_mtime_ns, status.st_ino)
        if version not in self._told:
            told = WorkerTask.from_json(path.read_text(encoding="utf-8"))
            self._told[version] = told
        return self._told[version]

    def _pool(self, told: WorkerTask, job: FileJob) -> TaskPool:
        # Told otherwise, it is another task: the pipeline was compiled anew.
        key = (told.name, repr(told))
        if key not in self._pools:
            for directory in {job.output.parent, job.error.parent}:
                if directory.is_dir():
                    remove_abandoned_temporaries(directory)
            launcher, retries = self._launcher(told, key), self._retries(told)
            pool = TaskPool(told, Path.cwd(), self._settings, launcher, retries)
            if self._patron is not None:
                pool.on_worker = self._patron.on_worker
            self._pools[key] = pool
        return self._pools[key]

    def _retries(self, told: WorkerTask) -> int:
        is_in_job = told.remote and self._submit is not None
        if self._patron is not None or is_in_job:
            return self._settings.worker_attempts - 1
        # What dies here and is no job, Snakemake's --retries are for.
        return 0

    def _launcher(self, told: WorkerTask, key: tuple[str, str]) -> Launcher:
        if not told.remote or self._submit is None:
            alive = self._address.alive
            return LocalLauncher(told, Path.cwd(), alive)
        assert self._earlier is not None  # noqa: S101 -- it serves, and may submit
        queue = self._lookout.queue
        status = self._statuses[key] = TaskStatus(told.name, queue)
        service = JobService(
            self._start_postman(), self._submit, self._earlier, self._lookout
        )
        return JobLauncher(told, Path.cwd(), self._settings, service, status)

    def _start_postman(self) -> Postman:
        if self._postman is None:
            self._postman = Postman.for_run(Path.cwd(), self._settings)
        return self._postman

    def _watch_run(self, pid: int) -> None:
        if pid not in self._runs and self._patron is None:
            self._runs[pid] = begin(self._wait_for_end(pid))

    async def _wait_for_end(self, pid: int) -> None:
        await _process_end(pid)
        del self._runs[pid]
        if not self._runs:
            self._over.set()

    async def _watch_idleness(self) -> None:
        while True:
            await asyncio.sleep(min(10, self._settings.worker_idle_timeout))
            idle = not self._talks and all(p.is_idle for p in self._pools.values())
            # Pools let their workers go after the idle time; then the host may go.
            # One that failed its setup stays, so that it isn't tried for every file.
            failed = any(pool.failure for pool in self._pools.values())
            if idle and not failed and self._patron is None:
                self._over.set()


async def _process_end(pid: int) -> None:
    """Return when the process has ended, also while its parent has not noticed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while _state(pid) not in {"", "Z", "X"}:  # noqa: ASYNC110 -- nothing to wait on
            await asyncio.sleep(RUN_POLL_S)
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _state(pid: int) -> str:
    """Return the state letter of proc(5), or nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return the other side's process and user id: struct ucred of unix(7)."""
    connection = writer.get_extra_info("socket")
    size = struct.calcsize("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


async def _receive(reader: asyncio.StreamReader) -> client.Fields:
    size = client.payload_size(await reader.readexactly(client.HEAD))
    return client.fields_of(await reader.readexactly(size))


def _send(writer: asyncio.StreamWriter, fields: client.Fields) -> None:
    writer.write(client.frame(fields))


def _blocked(error: OutputDirectoryError) -> Answer:
    return Answer(0, Fate.BLOCKED, str(error), is_outage=error.is_outage)


def _job(told: WorkerTask, input_file: str, output_file: str) -> FileJob:
    output = Path(output_file)
    error = error_directory(told.name) / error_name(_stem(told, output))
    return FileJob(Path(input_file), output, error)


def _stem(told: WorkerTask, output: Path) -> str:
    return output.name.removesuffix(told.output_ext)


@contextlib.contextmanager
def only_generation(listener: socket.socket) -> Iterator[None]:
    """Wait until no worker of an earlier host lives; keep later hosts waiting so.

    A predecessor's workers may still tear down: they hold what setup will open.
    """
    path = f"{listener.getsockname()}.alive"
    with client.locked(path) as alive:
        # Our workers hold it too.
        fcntl.flock(alive, fcntl.LOCK_SH)
        try:
            yield
        finally:
            # What cleans /tmp may have been quicker.
            Path(path).unlink(missing_ok=True)


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
