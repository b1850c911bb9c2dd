"""What the fork server imports before it forks: Snakemake, and our executor."""

import snakemake_executor_plugin_tigerflow  # noqa: F401
import tigerflow.engine.snakemake
import tigerflow.workflow  # noqa: F401
