"""Amounts in the forms of sbatch(1): memory, time and GPUs.

Every mistake is a `ValueError` of one sentence.
"""

import math
import re
from fractions import Fraction

_KB_PER_UNIT = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")
_DAYS = re.compile(r"([0-9]+)-([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")
# The word "gpu" is no type: gpu:2 is a form of --gres, not of --gpus.
_GPUS = re.compile(r"(?a)(\d+)|(?!gpu(:|$))(?=.*[A-Za-z])(\w[\w.-]*)(?::(\d+))?")


def parse_memory_mb(text: str | int) -> int:
    """Convert sbatch(1)'s `--mem` to MB of 1024**2 bytes, rounded up.

    0 means all memory of a node.
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


def parse_time_minutes(text: str | int) -> int:
    """Convert sbatch(1)'s `--time` to minutes, rounded up as Slurm does."""
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
    """Return the type of GPU (None for any type) and the count (0 for no GPU)."""
    match = None if isinstance(value, bool) else _GPUS.fullmatch(str(value).strip())
    if match is not None and match[1] is not None:
        return None, int(match[1])
    if match is not None and int(match[4] or 1) > 0:
        return match[3], int(match[4] or 1)
    message = f"gpus {value!r} is not a count, TYPE or TYPE:COUNT, such as 2 or a100:2"
    raise ValueError(message)
