"""The import path of what compiled Snakefiles call; they name no other module."""

from tigerflow.engine.snakefile import (
    CONFIG,
    allow_local_jobs,
    compile_and_find,
    find_stems,
    keep_apart,
    limit_files,
    refuse_beside_service,
    run_command,
    stop_workers,
    workers_command,
)

__all__ = [
    "CONFIG",
    "allow_local_jobs",
    "compile_and_find",
    "find_stems",
    "keep_apart",
    "limit_files",
    "refuse_beside_service",
    "run_command",
    "stop_workers",
    "workers_command",
]
