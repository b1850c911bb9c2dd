"""Why a directory has no inputs, though it has files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tigerflow.errors import did_you_mean
from tigerflow.naming import is_input_name, printable

#: No more files than this are looked at in directories below.
MOST_BELOW = 10_000

#: Files of more kinds than this are counted together.
KINDS_NAMED = 3

_UNFINISHED = "have the names of unfinished files"


def unmatched(directory: Path, extension: str) -> str | None:
    """Return a sentence about a directory whose files are all no inputs.

    None if one is an input, if there are no files, or if the directory cannot be read.
    """
    counts, examples = Counter[str](), dict[str, str]()
    below: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir():
                    # Neither our own state nor what a link leads to.
                    if not (entry.name.startswith(".") or entry.is_symlink()):
                        below.append(entry.path)
                    continue
                if is_input_name(entry.name, extension):
                    return None
                kind = _kind(entry.name, extension)
                counts[kind] += 1
                examples[kind] = min(entry.name, examples.get(kind, entry.name))
    except OSError:
        return None
    reasons = [*_here(counts, examples), *_below(below, extension)]
    if not reasons:
        return None
    place, told = printable(str(directory)), "; ".join(reasons)
    hint = _hint(extension, [kind.removeprefix("end in ") for kind in counts])
    return f"No file in '{place}' is a {extension} input: {told}{hint}"


def _kind(name: str, extension: str) -> str:
    if name.endswith(extension):
        return _UNFINISHED
    parts = name.split(".")[1:]
    # As many as the extension has.
    ending = "".join(f".{part}" for part in parts[-extension.count(".") :])
    return f"end in {ending}" if ending else "have no extension"


def _here(counts: Counter[str], examples: dict[str, str]) -> Iterator[str]:
    order = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    named = order[:KINDS_NAMED]
    for kind, count in named:
        yield f"{count} {kind} ({_such(examples[kind])})"
    if rest := counts.total() - sum(count for _, count in named):
        yield f"{rest} have other endings"


def _below(directories: list[str], extension: str) -> Iterator[str]:
    count, example, left = 0, "", MOST_BELOW
    for directory, place, names in _walk(directories):
        found = [name for name in names[:left] if is_input_name(name, extension)]
        left -= len(names)
        count += len(found)
        if found and not example:
            root = os.path.dirname(directory)  # noqa: PTH120 -- any name
            example = os.path.relpath(f"{place}/{found[0]}", root)
        if left <= 0:
            break
    if count:
        such = _such(example)
        yield f"{count} in subdirectories, which are not searched ({such})"


def _walk(directories: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each directory's own path, that of one in it, and the files there."""
    for directory in directories:
        for place, _, names in os.walk(directory):
            yield directory, place, names


def _such(example: str) -> str:
    return f"such as '{printable(example)}'"


def _hint(extension: str, endings: list[str]) -> str:
    for ending in endings:
        if ending.lower() == extension.lower():
            return f"; did you mean {ending!r}?"
    return did_you_mean(extension, endings)
