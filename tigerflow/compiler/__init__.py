"""From a `Pipeline` to a workflow directory that plain Snakemake runs."""
