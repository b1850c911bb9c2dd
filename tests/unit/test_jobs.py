"""Workers as jobs, with a scheduler that a test plays."""

import asyncio
import contextlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from playing import SETTINGS, TASK, settle

from tigerflow.faults import end_on_faults
from tigerflow.log import logger
from tigerflow.rundir.layout import mailboxes
from tigerflow.workers.dispatch import jobs
from tigerflow.workers.dispatch.earlier import stop_earlier_workers
from tigerflow.workers.dispatch.jobs import JobLauncher, JobService
from tigerflow.workers.dispatch.link import LaunchError
from tigerflow.workers.dispatch.mailbox_poller import Delivery, MailboxPoller
from tigerflow.workers.dispatch.scheduler import JobEvent, SubmitError
from tigerflow.workers.dispatch.status import TaskStatus
from tigerflow.workers.protocol import Started


def test_nothing_is_submitted_once_the_run_has_ended(tmp_path):
    submitted = []

    async def launch_and_close():
        poller = MailboxPoller.for_run(tmp_path, SETTINGS)
        earlier = asyncio.get_running_loop().create_future()
        earlier.set_result(None)
        service = JobService(poller, lambda *job: submitted.append(job), earlier)
        launcher = JobLauncher(TASK, tmp_path, SETTINGS, service, TaskStatus())
        launching = asyncio.create_task(launcher.launch())
        await settle()
        assert launcher._wanted
        await launcher.close()
        try:
            with pytest.raises(LaunchError, match="the run has ended"):
                await launching
        finally:
            await asyncio.to_thread(poller.close)

    asyncio.run(launch_and_close())
    assert submitted == []
    assert not [*(tmp_path / ".tigerflow/mailboxes").glob("*/*")]


def test_nothing_is_submitted_when_earlier_workers_cannot_be_stopped(tmp_path):
    submitted = []

    async def launch():
        with service(tmp_path, None) as it:
            earlier = asyncio.get_running_loop().create_future()
            earlier.set_exception(KeyError("odd"))
            ours = replace(
                it, earlier=earlier, submit=lambda *job: submitted.append(job)
            )
            launcher = JobLauncher(TASK, tmp_path, SETTINGS, ours, TaskStatus())
            with pytest.raises(KeyError, match="odd"):
                await launcher.launch()

    asyncio.run(asyncio.wait_for(launch(), 60))
    assert submitted == []


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
        poller = MailboxPoller.for_run(tmp_path, settings)
        earlier = asyncio.get_running_loop().create_future()
        earlier.set_result(None)
        submission = HangingSubmission()
        service = JobService(poller, lambda *_: submission, earlier)
        launcher = JobLauncher(TASK, tmp_path, settings, service, TaskStatus())
        link = await launcher.launch()
        link.stop()
        await launcher.close()
        assert (await link.wait()).how == "was killed"
        await asyncio.to_thread(poller.close)

    asyncio.run(asyncio.wait_for(launch_and_close(), 30))


@contextlib.contextmanager
def service(run_dir, submission, settings=SETTINGS):
    """A service that submits through one submission."""
    poller = MailboxPoller.for_run(run_dir, settings)
    earlier = asyncio.get_running_loop().create_future()
    earlier.set_result(None)
    try:
        yield JobService(poller, lambda *_: submission, earlier)
    finally:
        poller.close()


class PlayedSubmission:
    """Says what a test has it say."""

    def __init__(self):
        self.said = asyncio.Queue()

    async def events(self):
        while (event := await self.said.get()).kind != "ended":
            yield event
        yield event

    def cancel(self, jobs=()):
        pass

    def end(self, job, state):
        pass

    def kill(self):
        self.said.put_nowait(JobEvent("", "ended", "was killed"))


def squeue(tmp_path, monkeypatch, jobs):
    """Have Slurm's queue hold jobs, each with a number, a state, and our name."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "squeue"
    lines = [f"{number}|{number}|{state}|||{name}" for number, state, name in jobs]
    program.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines)]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_job_that_was_accepted_although_its_submission_failed_is_used(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs.secrets, "token_hex", lambda _: "aaaa")
    squeue(tmp_path, monkeypatch, [("7", "RUNNING", "rule_work_wildcards_aaaa")])
    failed = JobEvent("aaaa", "failed", "Socket timed out", is_outage=True)

    async def launch():
        submission = PlayedSubmission()
        with service(tmp_path, submission) as it:
            launcher = JobLauncher(TASK, tmp_path, SETTINGS, it, TaskStatus())
            link = await launcher.launch()
            submission.said.put_nowait(failed)
            submission.kill()
            while (adopted := link._job.submitted.submission) is submission:  # noqa: ASYNC110 -- nothing else tells
                await asyncio.sleep(0.01)
            number = tmp_path / mailboxes("work") / "aaaa" / "number"
            assert number.read_text() == "7"
            assert not link.ending.done()
            assert not launcher._paused_until
            await it.slurm_watch.close()
            adopted.kill()
            await link.wait()

    asyncio.run(asyncio.wait_for(launch(), 60))


def test_job_that_was_not_accepted_is_resubmitted_and_told_to_leave(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs.secrets, "token_hex", lambda _: "aaaa")
    squeue(tmp_path, monkeypatch, [("7", "RUNNING", "rule_work_wildcards_bbbb")])
    failed = JobEvent("aaaa", "failed", "Socket timed out", is_outage=True)

    async def launch():
        submission = PlayedSubmission()
        with service(tmp_path, submission) as it:
            launcher = JobLauncher(TASK, tmp_path, SETTINGS, it, TaskStatus())
            link = await launcher.launch()
            submission.said.put_nowait(failed)
            ending = await link.wait()
            assert ending.is_outage
            assert launcher._paused_until
            await it.slurm_watch.close()
        # It may still come: nobody waits for it.
        return (link.mailbox / "inbox").read_text()

    said = asyncio.run(asyncio.wait_for(launch(), 60))
    assert '"Stop"' in said


def test_submission_that_fails_at_once_is_reported_once_and_retried(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs, "PAUSE_S", 0.01)
    submission, failures, said = PlayedSubmission(), [SubmitError("no process")], []

    def submit(*_):
        if failures:
            raise failures.pop()
        return submission

    async def launch():
        with service(tmp_path, submission) as it:
            ours = replace(it, submit=submit)
            launcher = JobLauncher(TASK, tmp_path, SETTINGS, ours, TaskStatus())
            links = await asyncio.gather(launcher.launch(), launcher.launch())
            assert len({link.mailbox for link in links}) == 2

    handler = logger.add(lambda message: said.append(message.record["message"]))
    try:
        asyncio.run(asyncio.wait_for(launch(), 60))
    finally:
        logger.remove(handler)
    assert said == ["[work] no process; retrying"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_mailboxes_of_another_user_are_reported_and_not_waited_for():
    async def launch(run_dir):
        with service(run_dir, PlayedSubmission()) as it:
            await stop_earlier_workers(run_dir, SETTINGS)
            launcher = JobLauncher(TASK, run_dir, SETTINGS, it, TaskStatus())
            with pytest.raises(LaunchError, match="belongs to root, whose TigerFlow"):
                await launcher.launch()

    # Below a directory that others may enter, unlike those of pytest.
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / ".tigerflow"
        (state / "mailboxes" / "work").mkdir(parents=True)
        (state / "mailboxes").chmod(0o700)
        for path in (Path(directory), state):
            path.chmod(0o777)
        os.seteuid(65534)
        try:
            asyncio.run(asyncio.wait_for(launch(Path(directory)), 60))
        finally:
            os.seteuid(0)


def test_mailboxes_go_with_their_service(tmp_path):
    async def serve():
        with service(tmp_path, PlayedSubmission()):
            (tmp_path / ".tigerflow/mailboxes/work").mkdir()

    asyncio.run(serve())
    assert not (tmp_path / ".tigerflow/mailboxes").exists()


def test_mailboxes_of_a_job_outlive_their_service(tmp_path):
    async def serve():
        with service(tmp_path, PlayedSubmission()):
            (tmp_path / mailboxes("work") / "job").mkdir(parents=True)

    asyncio.run(serve())
    assert (tmp_path / mailboxes("work") / "job").exists()


def deliveries(run_dir, *deliveries, then=None):
    """Deliver to a worker's link; return it, what it asked for, and its ending."""

    async def deliver():
        with service(run_dir, PlayedSubmission()) as it:
            launcher = JobLauncher(TASK, run_dir, SETTINGS, it, TaskStatus())
            link = await launcher.launch()
            hurries = []
            link._job.hurry = lambda: hurries.append(link.is_quiet)
            for delivery in deliveries:
                link._deliver(delivery)
            if then is not None:
                link.job_ended(then)
                link._deliver(deliveries[-1])
                return hurries, await link.wait()
            return hurries, link.ending.done() or None

    return asyncio.run(asyncio.wait_for(deliver(), 60))


BEGUN = Delivery([Started("n1", 1, "7", None)], None, 0)
#: The worker is lost after 60 s.
QUIET = Delivery([], None, 31)


def test_scheduler_is_asked_once_about_a_worker_whose_pulse_stops(tmp_path):
    assert deliveries(tmp_path, BEGUN, QUIET, QUIET) == ([True], None)


def test_preempted_worker_without_a_pulse_fails_no_file(tmp_path):
    preempted = JobEvent("a", "failed", "PREEMPTED", is_killed=True, is_evicted=True)
    _, ending = deliveries(tmp_path, BEGUN, QUIET, then=preempted)
    assert ending.is_evicted
    assert ending.how == "was lost (PREEMPTED)"


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (12, "SIGUSR2")])
def test_worker_ended_by_the_scheduler_in_a_setup_command_fails_no_file(
    tmp_path, number, name
):
    ended = Delivery([], -number, 0)
    _, ending = deliveries(tmp_path, BEGUN, ended, then=JobEvent("a", "failed", ""))
    assert ending.is_evicted
    assert ending.how == f"was killed by signal {number} ({name})"


def test_worker_whose_messages_cannot_be_read_is_given_up(tmp_path):
    broken = Delivery([], None, fault=KeyError(0))
    _, ending = deliveries(tmp_path, BEGUN, broken, then=JobEvent("a", "failed", ""))
    assert ending.is_evicted
    assert ending.how == "cannot be reached: internal error: KeyError(0)"


def test_submission_that_fails_unexpectedly_is_a_fault_and_ends_its_workers(tmp_path):
    async def launch():
        faults = asyncio.Queue()
        end_on_faults(faults.put_nowait)
        submission = PlayedSubmission()
        with service(tmp_path, submission) as it:
            launcher = JobLauncher(TASK, tmp_path, SETTINGS, it, TaskStatus())
            link = await launcher.launch()
            submission.said.put_nowait(JobEvent("nobody's", "finished", ""))
            assert isinstance(await faults.get(), KeyError)
            ending = await link.wait()
            await launcher.close()
            return ending

    ending = asyncio.run(asyncio.wait_for(launch(), 120))
    assert ending.how == """internal error: KeyError("nobody's")"""
    assert not ending.has_started
