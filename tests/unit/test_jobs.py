"""Workers as jobs, with a scheduler that a test plays."""

import asyncio
from dataclasses import replace

import pytest
from test_pool import SETTINGS, TASK, settle

from tigerflow.workers import jobs
from tigerflow.workers.jobs import JobLauncher, JobService
from tigerflow.workers.link import LaunchError
from tigerflow.workers.postman import Postman
from tigerflow.workers.scheduler import JobEvent
from tigerflow.workers.status import TaskStatus


def test_nothing_is_submitted_once_the_run_has_ended(tmp_path):
    submitted = []

    async def launch_and_close():
        postman = Postman.for_run(tmp_path, SETTINGS)
        earlier = asyncio.get_running_loop().create_future()
        earlier.set_result(None)
        service = JobService(postman, lambda *job: submitted.append(job), earlier)
        launcher = JobLauncher(TASK, tmp_path, SETTINGS, service, TaskStatus())
        launching = asyncio.create_task(launcher.launch())
        await settle()
        assert launcher._wanted
        await launcher.close()
        try:
            with pytest.raises(LaunchError, match="the run has ended"):
                await launching
        finally:
            await asyncio.to_thread(postman.stop)

    asyncio.run(launch_and_close())
    assert submitted == []
    assert not [*(tmp_path / ".tigerflow/mailboxes").glob("*/*")]


class HangingSubmission:
    """Takes no notice of anything but its kill."""

    def __init__(self):
        self.killed = asyncio.Event()

    async def events(self):
        await self.killed.wait()
        yield JobEvent("", "ended", "was killed", is_killed=True)

    def cancel(self, jobs=()):
        pass

    def kill(self):
        self.killed.set()


def test_submission_that_hangs_at_the_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "HANG_S", 0)
    settings = replace(SETTINGS, worker_grace=1)

    async def launch_and_close():
        postman = Postman.for_run(tmp_path, settings)
        earlier = asyncio.get_running_loop().create_future()
        earlier.set_result(None)
        submission = HangingSubmission()
        service = JobService(postman, lambda *_: submission, earlier)
        launcher = JobLauncher(TASK, tmp_path, settings, service, TaskStatus())
        link = await launcher.launch()
        link.close()
        await launcher.close()
        assert (await link.wait()).how == "was killed"
        await asyncio.to_thread(postman.stop)

    asyncio.run(asyncio.wait_for(launch_and_close(), 30))
