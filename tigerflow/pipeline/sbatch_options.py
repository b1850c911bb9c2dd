"""Parse and check options of sbatch(1), and split them as the Slurm plugin needs them.

Names and limits are from snakemake-executor-plugin-slurm 2.8, forms from sbatch(1).
Every mistake is a `ValueError` of one sentence.
"""

import re
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tigerflow.pipeline.amounts import parse_memory_mb

_OPTION = re.compile(r"--([a-z][\w-]*)(?:=(.*))?|-([A-Za-z])=?(.+)?", re.DOTALL)
_PLUGIN_GRES = re.compile(r"[A-Za-z0-9_]+(:[A-Za-z0-9_.]+)?(:[0-9]+[TGM]?)?")
# sbatch(1): every one-letter option, by its long name.
_LONG_NAMES = {
    "a": "array", "A": "account", "b": "begin", "B": "extra-node-info",
    "c": "cpus-per-task", "C": "constraint", "d": "dependency", "D": "chdir",
    "e": "error", "F": "nodefile", "G": "gpus", "h": "help", "H": "hold",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses",
    "m": "distribution", "M": "clusters", "n": "ntasks", "N": "nodes",
    "o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet",
    "s": "oversubscribe", "S": "core-spec", "t": "time", "u": "usage",
    "v": "verbose", "V": "version", "w": "nodelist", "W": "wait", "x": "exclude",
}  # fmt: skip
_LETTERS_WITHOUT_VALUE = frozenset("hHkOQsuvVW")
RESOURCE_OF_OPTION = {
    "account": "slurm_account",
    "partition": "slurm_partition",
    "qos": "qos",
    "constraint": "constraint",
    "clusters": "clusters",
    "gres": "gres",
    "comment": "slurm_comment",
    "mem-per-cpu": "mem_mb_per_cpu",
}
_REASONS = {
    "array": "TigerFlow submits each worker by itself, so use max_workers instead",
    "chdir workdir": "workers run in the pipeline file's directory, so leave it out",
    "cpus-per-gpu cpus-per-task": "use worker_resources.cpus instead",
    "error output": "Snakemake gives each job a log file, so leave it out",
    "export": "jobs get the whole environment, so set variables in setup_commands",
    "gpus gpus-per-node gpus-per-socket gpus-per-task": (
        "use worker_resources.gpus instead"
    ),
    "input": "a worker reads no standard input, so leave it out",
    "job-name": "Snakemake finds its jobs by their name, so leave it out",
    "mem": "use worker_resources.memory instead",
    "nodes ntasks ntasks-per-gpu ntasks-per-node tasks-per-node": (
        "a worker is one task on one node, so leave it out"
    ),
    "help parsable quiet test-only usage version wait": (
        "Snakemake waits for the job ID that sbatch prints, so leave it out"
    ),
    "no-requeue requeue": (
        "a worker whose node is lost is replaced by a new one, so leave it out"
    ),
    "signal": (
        "it would end a worker in the middle of a file; "
        "TIGERFLOW_WORKER_WALL_TIME_GRACE sets how long before its time limit a worker "
        "stops"
    ),
    "time time-min": "use worker_resources.time instead",
    "wrap": "the job runs TigerFlow's worker, so use setup_commands instead",
}
# Slurm takes one of these and --mem; the first has a resource.
_MEMORY_OPTIONS = ("mem-per-cpu", "mem-per-gpu")
_REFUSED = {name: why for names, why in _REASONS.items() for name in names.split()}


@dataclass(frozen=True)
class SbatchOptions:
    """Options of `sbatch`: those that are Snakemake resources, and all others.

    `extra` has options without a resource, such as `--reservation=NAME`, not quoted.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    clusters: str | None = None
    gres: str | None = None
    comment: str | None = None
    mem_per_cpu: int | None = None
    extra: tuple[str, ...] = ()

    @property
    def memory_option(self) -> str | None:
        """The option among them that sets a worker's memory, if there is one."""
        if self.mem_per_cpu is not None:
            return "--mem-per-cpu"
        given = {word.partition("=")[0] for word in self.extra}
        return next((f"--{n}" for n in _MEMORY_OPTIONS if f"--{n}" in given), None)


def parse_sbatch_options(options: Sequence[str]) -> SbatchOptions:
    """Parse options of sbatch(1).

    Args:
        options: each has one or several options, quoted as for a shell. Nothing is
            expanded: `$HOME` stays `$HOME`, as in an `#SBATCH` line.

    Raises:
        ValueError: an option cannot be accepted, with the reason.
    """
    known: dict[str, Any] = {}
    extra: list[str] = []
    for element in options:
        for name, value in _named_values(element):
            if name not in RESOURCE_OF_OPTION:
                extra.append(f"--{name}" if value is None else f"--{name}={value}")
                continue
            if name in known:
                message = f"sbatch option --{name} is given twice, so keep one"
                raise ValueError(message)
            known[name] = _resource_value(name, value)
    by_field = {name.replace("-", "_"): value for name, value in known.items()}
    return SbatchOptions(**by_field, extra=tuple(extra))


def _named_values(element: str) -> Iterator[tuple[str, str | None]]:
    """Yield the long name and the value of each option, if it is accepted."""
    try:
        words = deque(shlex.split(element) or [""])
    except ValueError as error:
        message = (
            f"sbatch option {element!r} has an unclosed quote or ends in a backslash"
        )
        raise ValueError(message) from error
    while words:
        word = words.popleft()
        match = _OPTION.fullmatch(word)
        if match is None or not (name := match[1] or _LONG_NAMES.get(match[3])):
            message = f"{word!r} is not an sbatch option, such as --qos=long or -q long"
            raise ValueError(message)
        value = match[2] if match[1] else match[4]
        if value is None and words and words[0][:1] != "-":
            value = words.popleft()
        if value is not None and match[3] in _LETTERS_WITHOUT_VALUE:
            message = f"sbatch option {word[:2]} takes no value, but has {value!r}"
            raise ValueError(message)
        _refuse_owned(name)
        yield name, value


def _refuse_owned(name: str) -> None:
    if name in _REFUSED:
        message = f"sbatch option --{name} is not accepted: {_REFUSED[name]}"
        raise ValueError(message)
    # sbatch accepts any unambiguous prefix, so --tim=5 would override --time.
    for full in (*RESOURCE_OF_OPTION, *_REFUSED):
        if full.startswith(name) and name not in RESOURCE_OF_OPTION:
            message = f"sbatch option --{name} must be written in full, as --{full}"
            raise ValueError(message)


def _resource_value(name: str, value: str | None) -> str | int:
    if not value:
        message = f"sbatch option --{name} needs a value"
        raise ValueError(message)
    if name == "gres" and ("gpu" in value or not _PLUGIN_GRES.fullmatch(value)):
        message = (
            f"sbatch option --gres={value} is not accepted: use worker_resources.gpus "
            "for GPUs, and one NAME, NAME:COUNT or NAME:TYPE:COUNT for the rest"
        )
        raise ValueError(message)
    return _memory_per_cpu(value) if name == "mem-per-cpu" else value


def _memory_per_cpu(text: str) -> int:
    # With 0, Slurm would give each CPU all memory of its node.
    if (memory_mb := parse_memory_mb(text)) == 0:
        message = "sbatch option --mem-per-cpu needs more than 0"
        raise ValueError(message)
    return memory_mb
