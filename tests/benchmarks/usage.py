"""What processes use, by /proc."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of processes and of children that they waited for."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # proc(5): utime, stime, cutime, cstime.
            ticks += sum(map(int, words[11:15]))
    return ticks / _TICKS


def memory_mb(pids: Iterable[int]) -> float:
    """Return the memory of processes together; what they share counts once."""
    return sum(_kb(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids) / 1024


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had resident."""
    return _kb(f"/proc/{pid}/status", "VmHWM") / 1024


def _kb(path: str, name: str) -> int:
    with contextlib.suppress(OSError):
        found = re.search(
            rf"^{name}:\s+(\d+) kB$", Path(path).read_text(), re.MULTILINE
        )
        if found is not None:
            return int(found[1])
    return 0
