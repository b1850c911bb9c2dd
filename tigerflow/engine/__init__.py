"""Snakemake, driven from Python; the only place that knows its API."""
