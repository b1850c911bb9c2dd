"""In the worker hosts that tests start: workers are reached through mailboxes.

Their jobs are processes of this host, without a scheduler. A host is started by a
client, deep inside what is tested; so it is here that its local workers are replaced.
"""

import asyncio
import contextlib
import signal
import sys
from dataclasses import replace

if sys.orig_argv[-2:-1] == ["tigerflow.workers.host"]:
    from tigerflow.layout import mailboxes
    from tigerflow.settings import Settings
    from tigerflow.workers import local
    from tigerflow.workers.earlier import see_off_earlier
    from tigerflow.workers.jobs import JobLauncher, JobService
    from tigerflow.workers.postman import Postman
    from tigerflow.workers.scheduler import JobEvent
    from tigerflow.workers.status import TaskStatus

    class Submission:
        """Jobs that are processes."""

        def __init__(self, task, jobs, _avoided):
            self._places = {job: mailboxes(task) / job for job in jobs}
            self._processes = {}
            self._events = asyncio.Queue()
            self._runs = [asyncio.create_task(self._run(job)) for job in jobs]

        async def _run(self, job):
            words = ("-P", "-m", "tigerflow.workers.job", str(self._places[job]))
            process = await asyncio.create_subprocess_exec(sys.executable, *words)
            self._processes[job] = process
            self._events.put_nowait(JobEvent(job, "submitted", str(process.pid)))
            code = await process.wait()
            kind = "failed" if code else "finished"
            self._events.put_nowait(JobEvent(job, kind, f"exit code {code}"))

        async def events(self):
            ends = 0
            while ends < len(self._places):
                event = await self._events.get()
                ends += event.kind != "submitted"
                yield event
            yield JobEvent("", "ended", "")

        def cancel(self, jobs=()):
            for job in jobs or self._places:
                if job in self._processes:
                    with contextlib.suppress(ProcessLookupError):
                        self._processes[job].send_signal(signal.SIGTERM)

    class Launcher(JobLauncher):
        """Starts workers as such jobs."""

        _shared = None

        def __init__(self, task, run_dir, _alive):
            settings = Settings.from_environment()
            if Launcher._shared is None:
                # Before there is any worker of ours.
                Launcher._shared = self._share(run_dir, settings)
            remote, status = replace(task, remote=True), TaskStatus(task.name)
            super().__init__(remote, run_dir, settings, Launcher._shared, status)

        @staticmethod
        def _share(run_dir, settings):
            postman = Postman.for_run(run_dir, settings)
            see_off = see_off_earlier(run_dir, settings)
            earlier = asyncio.get_running_loop().create_task(see_off)
            return JobService(postman, Submission, earlier)

    local.LocalLauncher = Launcher
