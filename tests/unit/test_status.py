"""The status of a task whose workers are jobs, as the log shows it."""

import asyncio

import pytest

from tigerflow.log import logger
from tigerflow.workers.dispatch import status
from tigerflow.workers.dispatch.status import CANCELLED, FAILED, TaskStatus


@pytest.fixture
def said():
    """What was logged, level and text."""
    lines = []

    def note(message):
        record = message.record
        lines.append(f"{record['level'].name} {record['message']}")

    handler = logger.add(note)
    yield lines
    logger.remove(handler)


@pytest.fixture(autouse=True)
def _without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def squeue(tmp_path, script):
    path = tmp_path / "squeue"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- nothing else tells
            await asyncio.sleep(0.01)


def test_a_task_goes_from_inactive_to_pending_to_active_to_inactive(said):
    async def story():
        task = TaskStatus()
        task.submitted("a", "7")
        task.worker_started("a")
        await task.close()
        task.worker_ended()
        task.job_ended("a")
        task.end()

    asyncio.run(story())

    assert said == [
        "INFO Submitted task with job ID 7",
        "INFO Status changed: INACTIVE -> PENDING",
        "INFO Status changed: PENDING -> ACTIVE (1 workers)",
        "INFO Status changed: ACTIVE (1 workers) -> INACTIVE (Reason: COMPLETED)",
    ]


def test_a_task_of_several_is_named(said):
    async def story():
        task = TaskStatus("embed")
        task.submitted("a", "7")
        await task.close()
        task.end(FAILED)

    asyncio.run(story())

    assert said == [
        "INFO [embed] Submitted task with job ID 7",
        "INFO [embed] Status changed: INACTIVE -> PENDING",
        "ERROR [embed] Status changed: PENDING -> INACTIVE (Reason: FAILED)",
    ]


def test_jobs_that_waited_in_vain_were_cancelled(said):
    async def story():
        task = TaskStatus()
        task.submitted("a", "7")
        await task.close()
        task.end()

    asyncio.run(story())

    assert (
        said[-1] == f"ERROR Status changed: PENDING -> INACTIVE (Reason: {CANCELLED})"
    )


def test_a_task_without_a_job_says_nothing(said):
    async def story():
        TaskStatus().end(FAILED)

    asyncio.run(story())

    assert said == []


def test_many_workers_that_come_at_once_make_two_lines(said, monkeypatch):
    monkeypatch.setattr(status, "SETTLE_S", 0.1)

    async def story():
        task = TaskStatus()
        for number in range(9):
            task.submitted(str(number), str(number))
        for number in range(9):
            task.worker_started(str(number))
        await until(lambda: "(9 workers)" in said[-1])
        await task.close()

    asyncio.run(story())

    assert said[-2:] == [
        "INFO Status changed: PENDING -> ACTIVE (1 workers)",
        "INFO Status changed: ACTIVE (1 workers) -> ACTIVE (9 workers)",
    ]


def test_slurm_says_why_jobs_wait_while_they_do(said, monkeypatch, tmp_path):
    monkeypatch.setattr(status, "FIRST_REASON_S", 0)
    monkeypatch.setattr(status, "REASON_S", 0)
    squeue(
        tmp_path,
        """
        echo '6|6|PENDING||of another|'
        echo '7|7|PENDING||Resources|'
        echo '8|8|PENDING||Priority|'""",
    )

    async def story():
        task = TaskStatus()
        task.submitted("a", "7")
        task.submitted("b", "8")
        await until(lambda: "Resources" in said[-1])
        task.worker_started("a")
        task.worker_ended()
        await task.close()

    asyncio.run(story())

    first = "INFO Status changed: INACTIVE -> PENDING (Reason: (None))"
    second = (
        "INFO Status changed: PENDING (Reason: (None)) -> PENDING (Reason: (Resources))"
    )
    assert said[:3] == [
        "INFO Submitted task with Slurm job ID 7",
        first,
        "INFO Submitted task with Slurm job ID 8",
    ]
    assert said[3] == second


def test_it_does_not_wait_for_a_slurm_that_does_not_answer(said, monkeypatch, tmp_path):
    monkeypatch.setattr(status, "FIRST_REASON_S", 0)
    squeue(tmp_path, 'echo $$ > "$0.pid"; exec /bin/sleep 1000')

    async def story():
        task = TaskStatus()
        task.submitted("a", "7")
        await until((tmp_path / "squeue.pid").exists)
        await task.close()
        task.end()

    asyncio.run(story())

    assert said[-1].endswith("-> INACTIVE (Reason: CANCELLED)")
