"""The import path of a task's configuration that task packages use in their tests."""

from tigerflow.pipeline.schema import LocalAsyncTaskSpec as LocalAsyncTaskConfig
from tigerflow.pipeline.schema import LocalTaskSpec as LocalTaskConfig
from tigerflow.pipeline.schema import SlurmTaskSpec as SlurmTaskConfig
from tigerflow.pipeline.schema import WorkerResources as SlurmResourceConfig

__all__ = [
    "LocalAsyncTaskConfig",
    "LocalTaskConfig",
    "SlurmResourceConfig",
    "SlurmTaskConfig",
]
