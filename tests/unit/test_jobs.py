"""Workers as jobs, with a scheduler that a test plays."""

import asyncio

import pytest
from test_pool import SETTINGS, TASK, settle

from tigerflow.workers.jobs import JobLauncher, JobService
from tigerflow.workers.link import LaunchError
from tigerflow.workers.postman import Postman
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
