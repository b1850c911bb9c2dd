"""The texts of a workflow directory's other files: profiles, and what workers read."""

import json
from typing import Any

from tigerflow._assets import asset
from tigerflow.compiler.rules import Rule, threads_of, workers_of
from tigerflow.compiler.snakefile import render_limits
from tigerflow.pipeline.resources import parse_time_minutes
from tigerflow.pipeline.schema import LocalAsyncTaskSpec, SlurmTaskSpec
from tigerflow.pipeline.spec import Pipeline, PipelineTask

PROFILES = ("local", "slurm")

#: What Snakefile and profiles say of their origin, in their first lines.
MARK = "by `tigerflow compile`"

# What a worker file has, and hardly any other JSON file.
_WORKER_KEYS = frozenset({"name", "module", "setup_commands", "output_ext"})


def profile_text(profile: str, rules: tuple[Rule, ...], output_dir: str) -> str:
    """Return a profile as it is shipped, with the run directory and the rules' limits.

    The Snakefile's `workdir` comes too late for Snakemake's own log: without
    `directory` that would go to wherever the command was called.
    """
    limits = "".join(f"  {name}: {n}\n" for name, n in render_limits(rules).items())
    return (
        f"{shipped_profile(profile)}"
        f"directory: {json.dumps(output_dir)}\n\n"
        "# Files in flight at once, a rule: a local task has its workers, an async\n"
        "# one its concurrency_limit, a Slurm one its max_workers.\n"
        f"resources:\n{limits}"
    )


def shipped_profile(profile: str) -> str:
    """Return a profile as it is shipped, with its origin."""
    text = asset(f"profiles/{profile}/profile.yaml").read_text(encoding="utf-8")
    return f"# Made {MARK}, which overwrites changes: make them in a copy.\n{text}"


def worker_text(pipeline: Pipeline, task: PipelineTask) -> str:
    """Return what the task's workers are told, as JSON; see `WorkerTask`."""
    spec = task.spec
    limit = spec.concurrency_limit if isinstance(spec, LocalAsyncTaskSpec) else 1
    told: dict[str, Any] = {
        "name": spec.name,
        "module": task.module,
        "directory": str(pipeline.path.resolve().parent),
        "params": task.param_texts,
        "setup_commands": spec.setup_commands,
        "output_ext": spec.output_ext,
        "workers": workers_of(spec),
        "concurrency_limit": limit,
        "threads": threads_of(spec),
    }
    if spec.timeout is not None:
        told["timeout"] = spec.timeout
    if isinstance(spec, SlurmTaskSpec):
        told["remote"] = True
        told["wall_time"] = 60 * parse_time_minutes(spec.worker_resources.time)
        told["workers_per_job"] = spec.workers_per_job
    return json.dumps(told, indent=2) + "\n"


def is_ours(text: str) -> bool:
    """Tell whether `compile` has written this text, now or in an earlier version."""
    if MARK in text:
        return True
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.keys() >= _WORKER_KEYS
