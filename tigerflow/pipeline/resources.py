"""Translate a Slurm task's `worker_resources` into Snakemake resource values.

Names and limits are from snakemake-executor-plugin-slurm 2.8, forms from sbatch(1).
Every mistake is a `ValueError` of one sentence.
"""

import re
import shlex
from collections.abc import Sequence

from tigerflow.pipeline.amounts import parse_gpus, parse_memory_mb, parse_time_minutes
from tigerflow.pipeline.sbatch_options import (
    RESOURCE_OF_OPTION,
    SbatchOptions,
    parse_sbatch_options,
)

# The plugin refuses other values, but only when the workflow already runs.
_PLUGIN_GPU_MODEL = re.compile(r"[A-Za-z0-9_.]+")
# The plugin would refuse it, though it only repeats the plugin's own default.
_OVER_PLUGINS = ("--mem",)


def check_memory_once(memory: str | int | None, options: SbatchOptions) -> None:
    """Raise a ValueError if both a resource and an option set the memory."""
    if memory is not None and (option := options.memory_option):
        message = (
            f"sbatch option {option} and worker_resources.memory are both given, so "
            "keep one"
        )
        raise ValueError(message)


def slurm_resources(
    cpus: int,
    memory: str | int | None,
    time: str | int,
    gpus: int | str | None = None,
    sbatch_options: Sequence[str] = (),
) -> dict[str, int | str]:
    """Return the resources of one worker's rule, in the order that reads best.

    `mem_mb` is in MB of 1024**2 bytes, as for Slurm. It is 0 when jobs request no
    amount of memory, because Snakemake would choose one without it. `runtime` is in
    minutes. `cpus` is only checked: the plugin reads it from the rule's `threads`.
    """
    if isinstance(cpus, bool) or cpus < 1:
        message = f"cpus {cpus!r} is not a positive whole number"
        raise ValueError(message)
    resources: dict[str, int | str] = {
        "mem_mb": 0 if memory is None else parse_memory_mb(memory),
        "runtime": parse_time_minutes(time),
    }
    model, count = parse_gpus(0 if gpus is None else gpus)
    options = parse_sbatch_options(sbatch_options)
    check_memory_once(memory, options)
    extra = list(options.extra)
    if memory is not None and not resources["mem_mb"]:
        # The plugin would ignore mem_mb=0.
        extra.insert(0, "--mem=0")
    if count:
        # Without it, Slurm may choose one worker's GPUs on several nodes.
        resources["nodes"] = 1
    if model and not _PLUGIN_GPU_MODEL.fullmatch(model):
        extra.insert(0, f"--gpus-per-node={model}:{count}")
    elif count:
        resources |= {"gpu": count} | ({"gpu_model": model} if model else {})
    values = {
        key: getattr(options, name.replace("-", "_"))
        for name, key in RESOURCE_OF_OPTION.items()
    }
    values["slurm_extra"] = " ".join(map(_shell_word, extra))
    return resources | {key: value for key, value in values.items() if value}


def _shell_word(word: str) -> str:
    """Quote a word of `slurm_extra`, which becomes part of a shell command."""
    name, equals, value = word.partition("=")
    # The plugin searches values for forbidden options, too: "-J" in --mail-user=a-J@b.
    # An empty pair of quotes hides such text; a shell ignores it.
    hidden = re.sub(r"-(?=J|-|[A-Za-z](?:\s|$))", "-''", shlex.quote(value))
    name += "''" if name in _OVER_PLUGINS else ""
    return f"{name}={hidden}" if equals else name
