"""Translate a Slurm task's `worker_resources` into Snakemake resource values.

Names and limits are those of snakemake-executor-plugin-slurm 2.8, forms those of
sbatch(1). Every mistake is a `ValueError` of one sentence.
"""

import math
import re
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_KB_PER_UNIT = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")
_DAYS = re.compile(r"([0-9]+)-([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")
# The word "gpu" is no type: gpu:2 is a form of --gres, not of --gpus.
_GPUS = re.compile(r"(?a)(\d+)|(?!gpu(:|$))(?=.*[A-Za-z])(\w[\w.-]*)(?::(\d+))?")
_OPTION = re.compile(r"--([a-z][\w-]*)(?:=(.*))?|-([A-Za-z])=?(.+)?", re.DOTALL)
# The plugin refuses other values, but only when the workflow already runs.
_PLUGIN_GPU_MODEL = re.compile(r"[A-Za-z0-9_.]+")
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

_RESOURCE_OF_OPTION = {
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
    "job-name": "Snakemake finds its jobs by it, so leave it out",
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
        "it would end a worker under its file; TIGERFLOW_WORKER_WALL_TIME_GRACE says "
        "how long before the end of its time a worker stops"
    ),
    "time time-min": "use worker_resources.time instead",
    "wrap": "the job runs TigerFlow's worker, so use setup_commands instead",
}
# Slurm takes one of these and --mem; the first has a resource.
_MEMORY_OPTIONS = ("mem-per-cpu", "mem-per-gpu")
# The plugin would not let it pass, though it says no more than a default of it.
_OVER_PLUGINS = ("--mem",)
_REFUSED = {name: why for names, why in _REASONS.items() for name in names.split()}


@dataclass(frozen=True)
class SbatchOptions:
    """Options for `sbatch`, split by how the Slurm plugin takes them.

    `extra` holds those without a resource, such as `--reservation=NAME`, not quoted.
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
        """Name the option among them that says how much memory a worker gets."""
        if self.mem_per_cpu is not None:
            return "--mem-per-cpu"
        given = {word.partition("=")[0] for word in self.extra}
        return next((f"--{n}" for n in _MEMORY_OPTIONS if f"--{n}" in given), None)


def parse_memory_mb(text: str | int) -> int:
    """Return sbatch(1)'s `--mem` in MB of 1024**2 bytes, rounded up.

    0 is all memory of a node.
    """
    match = _MEMORY.fullmatch(str(text).strip())
    if match is None:
        message = (
            f"memory {text!r} is not a positive number with an optional unit "
            "K, M, G or T, such as 512M or 16G"
        )
        raise ValueError(message)
    number, unit = match.groups(default="M")
    return math.ceil(Fraction(number) * _KB_PER_UNIT[unit.upper()] / 1024)


def check_memory_once(memory: str | int | None, options: SbatchOptions) -> None:
    """Refuse memory that a resource and an option ask for, each in its way."""
    if memory is not None and (option := options.memory_option):
        message = (
            f"sbatch option {option} and worker_resources.memory are both given, so "
            "keep one"
        )
        raise ValueError(message)


def parse_time_minutes(text: str | int) -> int:
    """Return sbatch(1)'s `--time` in minutes, rounded up as Slurm does."""
    stripped = str(text).strip()
    if stripped.upper() in {"-1", "INFINITE", "UNLIMITED"}:
        message = (
            f"time {text!r} has no end, but a worker must know when to stop taking "
            "files, so write a limit such as 7-00:00:00"
        )
        raise ValueError(message)
    seconds = 0
    if match := _DAYS.fullmatch(stripped):
        d, h, m, s = map(int, match.groups(default="0"))
        seconds = ((d * 24 + h) * 60 + m) * 60 + s
    elif match := _CLOCK.fullmatch(stripped):
        first, second, third = match.groups(default="0")
        # Slurm's two numbers are minutes and seconds, not hours and minutes.
        seconds = int(first) * 60 + int(second)
        if match[3] is not None:
            seconds = seconds * 60 + int(third)
    if seconds == 0:
        message = (
            f"time {text!r} is not a positive time as MINUTES, MINUTES:SECONDS, "
            "HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES or "
            "DAYS-HOURS:MINUTES:SECONDS"
        )
        raise ValueError(message)
    return math.ceil(seconds / 60)


def parse_gpus(value: int | str) -> tuple[str | None, int]:
    """Return the GPU type, `None` for any, and the count; 0 means no GPU."""
    match = None if isinstance(value, bool) else _GPUS.fullmatch(str(value).strip())
    if match is not None and match[1] is not None:
        return None, int(match[1])
    if match is not None and int(match[4] or 1) > 0:
        return match[3], int(match[4] or 1)
    message = f"gpus {value!r} is not a count, TYPE or TYPE:COUNT, such as 2 or a100:2"
    raise ValueError(message)


def parse_sbatch_options(options: Sequence[str]) -> SbatchOptions:
    """Split sbatch(1) options, one or several an element, quoted as for a shell.

    Nothing is expanded: `$HOME` stays `$HOME`, as in an `#SBATCH` line.
    """
    known: dict[str, Any] = {}
    extra: list[str] = []
    for element in options:
        for name, value in _named_values(element):
            if name not in _RESOURCE_OF_OPTION:
                extra.append(f"--{name}" if value is None else f"--{name}={value}")
                continue
            if name in known:
                message = f"sbatch option --{name} is given twice, so keep one"
                raise ValueError(message)
            known[name] = _resource_value(name, value)
    by_field = {name.replace("-", "_"): value for name, value in known.items()}
    return SbatchOptions(**by_field, extra=tuple(extra))


def slurm_resources(
    cpus: int,
    memory: str | int | None,
    time: str | int,
    gpus: int | str | None = None,
    sbatch_options: Sequence[str] = (),
) -> dict[str, int | str]:
    """Return the resources of one worker's rule, in the order they read best.

    `mem_mb` is in MB of 1024**2 bytes, as Slurm reads it, and 0 where jobs ask for no
    such amount: Snakemake would make one up. `runtime` is in minutes. `cpus` is only
    checked: the plugin takes it from the rule's `threads`.
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
        # The plugin takes 0 for no wish at all.
        extra.insert(0, "--mem=0")
    if count:
        # Without it Slurm may take the GPUs of one worker from several nodes.
        resources["nodes"] = 1
    if model and not _PLUGIN_GPU_MODEL.fullmatch(model):
        extra.insert(0, f"--gpus-per-node={model}:{count}")
    elif count:
        resources |= {"gpu": count} | ({"gpu_model": model} if model else {})
    values = {
        key: getattr(options, name.replace("-", "_"))
        for name, key in _RESOURCE_OF_OPTION.items()
    }
    values["slurm_extra"] = " ".join(map(_shell_word, extra))
    return resources | {key: value for key, value in values.items() if value}


def _named_values(element: str) -> Iterator[tuple[str, str | None]]:
    """Yield each option of an element as its checked long name and its value."""
    try:
        words = deque(shlex.split(element) or [""])
    except ValueError as error:
        message = f"sbatch option {element!r} has an open quote or a last backslash"
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
    # sbatch takes any unambiguous beginning, so --tim=5 would override --time.
    for full in (*_RESOURCE_OF_OPTION, *_REFUSED):
        if full.startswith(name) and name not in _RESOURCE_OF_OPTION:
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
    # By Slurm's 0, each CPU would have all memory of its node.
    if (memory_mb := parse_memory_mb(text)) == 0:
        message = "sbatch option --mem-per-cpu needs more than 0"
        raise ValueError(message)
    return memory_mb


def _shell_word(word: str) -> str:
    """Quote a word of `slurm_extra`, which the plugin puts into a shell command."""
    name, equals, value = word.partition("=")
    # The plugin looks for forbidden options in values too, "-J" in --mail-user=a-J@b.
    # An empty pair of quotes hides them there, and means nothing to the shell.
    hidden = re.sub(r"-(?=J|-|[A-Za-z](?:\s|$))", "-''", shlex.quote(value))
    name += "''" if name in _OVER_PLUGINS else ""
    return f"{name}={hidden}" if equals else name
