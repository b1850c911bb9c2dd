"""The end that runs the task: a worker process, and the job that it may be in."""
