"""Import Snakemake once, in the fork server, so that each forked child starts at once.

That includes modules that Snakemake imports only during a run, and its search for
plugins.
"""

# ruff: noqa: PLC0415, F401 -- an import that fails must not end the fork server

import contextlib
import gc
import importlib
import platform

from tigerflow.engine import internals


def _import_snakemake() -> None:
    import platformdirs
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
    from snakemake_interface_scheduler_plugins.registry import SchedulerPluginRegistry

    import snakemake_executor_plugin_tigerflow
    import tigerflow.engine.snakemake

    # What Snakefiles import; it is on a floor above this one.
    importlib.import_module("tigerflow.workflow")

    # Not before: Snakemake's modules import each other, and only in one order.
    for late in ("snakemake.storage", "smart_open"):
        with contextlib.suppress(ImportError):
            importlib.import_module(late)

    ExecutorPluginRegistry()
    SchedulerPluginRegistry()


#: What Snakemake's internals lack that TigerFlow uses.
missing: list[str] = []

#: Why Snakemake cannot be imported: a plugin that is installed beside it, perhaps.
problem: Exception | None = None

try:
    _import_snakemake()
    missing += internals.missing()
except Exception as error:  # noqa: BLE001 -- whatever it is, children say so in their log
    problem = error


def check() -> None:
    """Raise what has kept Snakemake from being imported here."""
    if problem is not None:
        raise problem


# Asks `uname` in a process of its own; the answer is kept.
platform.platform()
# What is there now stays: no window looks through it, nor copies its pages for that.
gc.collect()
gc.freeze()
