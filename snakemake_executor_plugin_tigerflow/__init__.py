"""Snakemake finds executor plugins by the name of their package; this is ours."""

from tigerflow.engine.executor import Executor, ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
