"""Real mounts, where that is allowed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(point: Path, *words: object) -> Iterator[None]:
    """Call mount(8) with these words and the point; unmount it in the end."""
    point.mkdir(parents=True, exist_ok=True)
    command = ["mount", *map(str, words), str(point)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[None]:
    """Mount a disk that is soon full."""
    with mounted(path, "-t", "tmpfs", "-o", f"size={kilobytes}k", "none"):
        yield
