"""The kinds of task to derive from."""

from tigerflow.tasks.kinds import LocalAsyncTask, LocalTask, SlurmTask

__all__ = ["LocalAsyncTask", "LocalTask", "SlurmTask"]
