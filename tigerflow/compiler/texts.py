"""The texts of a workflow directory's other files: profiles, and what workers read."""

import json
from collections.abc import Mapping

from tigerflow._assets import asset
from tigerflow.compiler.rules import Rule, limit_name
from tigerflow.compiler.snakefile import render_limits
from tigerflow.tasks.worker_task import WorkerTask

#: The profile that Snakemake finds by itself, beside the workflow.
DEFAULT = "default"

#: By this, each file of a Slurm task is a job.
SLURM = "slurm"

#: By this, workers stay: in jobs of Slurm tasks, they take one file after another.
WORKERS_STAY = "tigerflow"

#: Those that are chosen on the command line.
PROFILES: tuple[str, ...] = ("local", SLURM, WORKERS_STAY)

#: More files than any workflow has.
_NO_LIMIT = 1_000_000

#: What Snakefile and profiles say of their origin, in their first lines.
MARK = "by `tigerflow compile`"


def profile_text(profile: str, rules: tuple[Rule, ...], output_dir: str) -> str:
    """Return a profile as it is shipped, with the run directory and the rules' limits.

    The Snakefile's `workdir` comes too late for Snakemake's own log: without
    `directory` that would go to wherever the command was called.
    """
    shipped = f"{shipped_profile(profile)}directory: {_quoted(output_dir)}\n"
    if profile == DEFAULT:
        # It would replace the limits of the others; the Snakefile has them too.
        return shipped
    limits = dict(render_limits(rules))
    slurm = "its max_workers"
    threads = ""
    if profile == WORKERS_STAY:
        remote = [rule.name for rule in rules if not rule.is_local]
        limits |= {limit_name(name): _NO_LIMIT for name in remote}
        slurm = "any: they wait for its workers"
        if remote:
            threads = _block("set-threads", dict.fromkeys(remote, 0))
            threads = f"\n# These take no cores of this host.\n{threads}"
    return (
        f"{shipped}\n"
        "# Files in flight at once, a rule: a local task has its workers, an async\n"
        f"# one its concurrency_limit, a Slurm one {slurm}.\n"
        f"{_about_batches(rules)}"
        f"{_block('resources', limits)}{threads}"
    )


def _quoted(text: str) -> str:
    """Return a text as YAML has it; JSON's escapes are not enough for all letters."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        each if each.isascii() and each.isprintable() else f"\\U{ord(each):08x}"
        for each in quoted
    )


def _about_batches(rules: tuple[Rule, ...]) -> str:
    if all(rule.batch_size == 1 for rule in rules):
        return ""
    return "# With batches, those of two: one is run while the next one gathers.\n"


def _block(key: str, values: Mapping[str, int]) -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in values.items())
    return f"{key}:\n{lines}"


def shipped_profile(profile: str) -> str:
    """Return a profile as it is shipped, with its origin."""
    text = asset(f"profiles/{profile}/profile.yaml").read_text(encoding="utf-8")
    return f"# Made {MARK}, which overwrites changes: make them in a copy.\n{text}"


def is_ours(text: str) -> bool:
    """Tell whether `compile` has written this text, now or in an earlier version."""
    return MARK in text or WorkerTask.is_json_of_one(text)
