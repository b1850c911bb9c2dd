"""Records what happens in a service: in the journal, in the log, in its counts.

The ledger records the states of files; this is for the run, its workers and tasks.
"""

import os
import platform
import socket
from collections.abc import Mapping
from importlib import metadata

from tigerflow import __version__
from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.events import (
    FORMAT,
    RunStarted,
    RunStopped,
    TaskDone,
    TaskFailed,
    TaskStopped,
    WorkerChanged,
    WorkerState,
)
from tigerflow.rundir.journal import Journal
from tigerflow.service.ledger import Ledger
from tigerflow.service.storage import Storage
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.protocol import Answer, Fate


class Recorder:
    """Records what workers and tasks do."""

    def __init__(self, journal: Journal, ledger: Ledger, storage: Storage) -> None:
        """Write to `journal`; tell `ledger` and `storage` what concerns them."""
        self._journal = journal
        self._ledger = ledger
        self._storage = storage
        #: Tasks that cannot run, each recorded once.
        self._stopped: set[str] = set()

    def started(self, pipeline: Pipeline) -> None:
        """Record the start of a run, with what it runs."""
        tasks = pipeline.tasks
        event = RunStarted(
            format=FORMAT,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            python=platform.python_version(),
            snakemake=metadata.version("snakemake"),
            tasks={task.name: task.spec.depends_on for task in tasks},
            versions={task.name: task.version for task in tasks},
            kinds={task.name: task.spec.kind for task in tasks},
            modules={task.name: task.module for task in tasks},
            params={task.name: dict(task.param_texts) for task in tasks},
            defaults={task.name: dict(task.param_defaults) for task in tasks},
        )
        self._journal.append(event)
        logger.info("Starting pipeline execution")

    def ended(self, reason: str) -> None:
        """Record the end of a run."""
        self._journal.append(RunStopped(reason=reason))

    def answered(self, task: WorkerTask, job: FileJob, answer: Answer) -> None:
        """Record what a worker has made of a file."""
        stem = job.output.name.removesuffix(task.output_ext)
        if answer.fate is Fate.BLOCKED:
            self._ledger.block(stem)
            self._storage.pause(answer.message)
        if answer.fate in {Fate.BLOCKED, Fate.UNDONE}:
            return
        event = TaskDone if answer.fate is Fate.DONE else TaskFailed
        tried = event(
            task=task.name,
            file=stem,
            started=answer.started,
            seconds=answer.seconds,
            worker=answer.worker,
        )
        self._journal.append(tried)
        self._ledger.note(stem, task.name, succeeded=answer.fate is Fate.DONE)
        if answer.fate is Fate.FAILED:
            several = task.workers > 1 and answer.worker
            worker = f"worker {answer.worker}: " if several else ""
            logger.error("[{}] {}{}", task.name, worker, printable(answer.message))

    def worker_changed(
        self, task: str, worker: int, state: WorkerState, note: str
    ) -> None:
        """Record what became of a worker."""
        event = WorkerChanged(task=task, worker=worker, state=state, note=note)
        self._journal.append(event)

    def see_stopped(self, stuck: Mapping[str, str]) -> None:
        """Record tasks that cannot run, with the reason, each once."""
        for task, reason in stuck.items():
            if task not in self._stopped:
                self._stopped.add(task)
                self._journal.append(TaskStopped(task=task, reason=reason))
                logger.error("[{}] stopped: {}", task, reason)
