"""The processes that run tasks, and how Snakemake's jobs talk to them."""
