"""A scheduler's jobs as processes, of this host or of a second one."""

import asyncio
import contextlib
import json
import os
import signal
import sys

from tigerflow.rundir.layout import mailboxes
from tigerflow.workers.dispatch.scheduler import JobEvent

#: The words that have a command run on a second host.
SECOND_HOST = "TEST_SECOND_HOST"


class Submission:
    """Jobs that are processes."""

    def __init__(self, task, jobs, _avoided):
        self._places = {job: mailboxes(task) / job for job in jobs}
        self._processes = {}
        self._events = asyncio.Queue()
        self._runs = [asyncio.create_task(self._run(job)) for job in jobs]

    async def _run(self, job):
        there = json.loads(os.environ.get(SECOND_HOST, "[]"))
        words = ("-P", "-m", "tigerflow.workers.process.job", str(self._places[job]))
        process = await asyncio.create_subprocess_exec(*there, sys.executable, *words)
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

    def kill(self):
        pass


class Submitter:
    """Stands in for the one that needs a scheduler."""

    def __init__(self, *_):
        pass

    def submit(self, task, jobs, avoided):
        return Submission(task, jobs, avoided)
