"""The import path of `StagingContext` that staging functions use."""

from tigerflow.pipeline.staging import StagingContext

__all__ = ["StagingContext"]
