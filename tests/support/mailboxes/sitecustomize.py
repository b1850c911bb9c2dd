"""In the worker hosts that tests start: workers are reached through mailboxes.

Their jobs are processes of this host, without a scheduler. A host is started by a
client, deep inside what is tested; so it is here that its local workers are replaced.
So is the scheduler of a service whose test has a second host: its jobs run there.
"""

import asyncio
import os
import sys
from dataclasses import replace


def _is_service():
    words = sys.orig_argv[1:]
    is_host = "tigerflow.engine.hosting" in words
    return is_host or words[:2] == ["-m", "tigerflow"] or "--input-dir=in" in words


if "TEST_SECOND_HOST" in os.environ and _is_service():
    from jobs_as_processes import Submitter

    from tigerflow.engine import submission

    submission.Submitter = Submitter

if sys.orig_argv[-2:-1] == ["tigerflow.workers.dispatch.host"]:
    from jobs_as_processes import Submission

    from tigerflow.settings import Settings
    from tigerflow.workers.dispatch import local
    from tigerflow.workers.dispatch.earlier import stop_earlier_workers
    from tigerflow.workers.dispatch.jobs import JobLauncher, JobService
    from tigerflow.workers.dispatch.mailbox_poller import MailboxPoller
    from tigerflow.workers.dispatch.status import TaskStatus

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
            poller = MailboxPoller.for_run(run_dir, settings)
            stopping = stop_earlier_workers(run_dir, settings)
            earlier = asyncio.get_running_loop().create_task(stopping)
            return JobService(poller, Submission, earlier)

    local.LocalLauncher = Launcher
