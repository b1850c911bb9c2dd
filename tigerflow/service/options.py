"""The options of a service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceOptions:
    """What the options of `tigerflow run` and `watch` come to."""

    #: Stop after so many seconds without an unfinished file; None: never.
    idle_timeout_s: float | None = None
    #: Stop when all files that exist at the start are finished.
    once: bool = False
    delete_input: bool = False
    retry_failed: bool = False
    #: Process files again that a task processed before it changed.
    rerun_changed: bool = False
    keep_metadata: bool = True
