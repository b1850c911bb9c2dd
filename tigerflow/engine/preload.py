"""What the fork server does before it forks, so that no window has to.

It imports Snakemake with what that imports late, and lets it look for its plugins.
"""

import gc
import platform

import platformdirs  # noqa: F401
import smart_open  # noqa: F401
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_scheduler_plugins.registry import SchedulerPluginRegistry

import snakemake_executor_plugin_tigerflow  # noqa: F401
import tigerflow.engine.snakemake
import tigerflow.workflow  # noqa: F401

# Not before: Snakemake's modules import each other, and only in one order.
import snakemake.storage  # noqa: F401 # isort: skip

ExecutorPluginRegistry()
SchedulerPluginRegistry()
# Asks `uname` in a process of its own; the answer is kept.
platform.platform()
# What is there now stays: no window looks through it, nor copies its pages for that.
gc.collect()
gc.freeze()
