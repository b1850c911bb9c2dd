"""The text of the profiles in a workflow directory, and how to recognize our files."""

import json
from collections.abc import Mapping

from tigerflow._assets import asset
from tigerflow.compiler.rules import Rule, limit_name
from tigerflow.compiler.snakefile import render_limits
from tigerflow.tasks.worker_task import WorkerTask

#: The profile that Snakemake finds by itself, beside the workflow.
DEFAULT = "default"

#: The profile with one Slurm job per file.
SLURM = "slurm"

#: The profile with persistent workers: a Slurm job processes one file after another.
WORKERS_STAY = "tigerflow"

#: Profiles to choose from on the command line.
PROFILES: tuple[str, ...] = ("local", SLURM, WORKERS_STAY)

#: More files than any workflow has.
_NO_LIMIT = 1_000_000

#: Part of the first lines of Snakefiles and profiles.
MARK = "by `tigerflow compile`"


def profile_text(profile: str, rules: tuple[Rule, ...], output_dir: str) -> str:
    """Return a shipped profile, completed with the run directory and the limits.

    Snakemake opens its own log before it reads the Snakefile's `workdir`. Without
    `directory`, that log would go to the current directory.
    """
    shipped = f"{shipped_profile(profile)}directory: {_quoted(output_dir)}\n"
    if profile == DEFAULT:
        # Its limits would replace those of other profiles; the Snakefile has them, too.
        return shipped
    limits = dict(render_limits(rules))
    slurm = "max_workers"
    threads = ""
    if profile == WORKERS_STAY:
        remote = [rule.name for rule in rules if not rule.is_local]
        limits |= {limit_name(name): _NO_LIMIT for name in remote}
        slurm = "no limit, since they wait for workers"
        if remote:
            threads = _block("set-threads", dict.fromkeys(remote, 0))
            threads = f"\n# These use no cores of this host.\n{threads}"
    return (
        f"{shipped}\n"
        "# The most files in flight per rule. Local tasks: workers; async tasks:\n"
        f"# concurrency_limit; Slurm tasks: {slurm}.\n"
        f"{_about_batches(rules)}"
        f"{_block('resources', limits)}{threads}"
    )


def _quoted(text: str) -> str:
    """Return a text quoted for YAML, which needs more escapes than JSON."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        each if each.isascii() and each.isprintable() else f"\\U{ord(each):08x}"
        for each in quoted
    )


def _about_batches(rules: tuple[Rule, ...]) -> str:
    if all(rule.batch_size == 1 for rule in rules):
        return ""
    return "# With batches, twice that: one batch runs while the next one fills.\n"


def _block(key: str, values: Mapping[str, int]) -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in values.items())
    return f"{key}:\n{lines}"


def shipped_profile(profile: str) -> str:
    """Return a profile as it is shipped, after a line about its origin."""
    text = asset(f"profiles/{profile}/profile.yaml").read_text(encoding="utf-8")
    return f"# Generated {MARK}, which overwrites changes: edit a copy instead.\n{text}"


def is_ours(text: str) -> bool:
    """Tell whether a version of `tigerflow compile` has written this text."""
    return MARK in text or WorkerTask.is_json_of_one(text)
