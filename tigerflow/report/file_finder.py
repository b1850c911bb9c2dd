"""Find the file of a run that a user means: by any of its names, or a path of one."""

import bisect
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tigerflow.errors import ExitCode, TigerflowError, did_you_mean
from tigerflow.naming import ERROR_EXT, is_input_name
from tigerflow.report.reading import Sources
from tigerflow.rundir.layout import INPUT_LINK
from tigerflow.rundir.plan import PlannedTask

#: So many names are compared with one that is unknown, before and behind it.
COMPARED = 200


class UnknownFileError(TigerflowError):
    """No file of the run has this name."""

    exit_code = ExitCode.USAGE


class FileFinder:
    """Finds the file that a user means."""

    def __init__(self, sources: Sources) -> None:
        """Look among the files that `sources` list."""
        self._place = sources.place
        self._plan = sources.plan
        self._inputs = sources.listed.inputs
        self._known = frozenset(sources.listed.stems)

    def stem_of(self, given: str) -> str:
        """Return the stem of the file that a name, path or stem is of."""
        path = Path(given)
        for stem in self._candidates(path):
            if stem in self._known:
                return stem
        raise UnknownFileError(self._unknown(given, path.name))

    def _candidates(self, path: Path) -> Iterator[str]:
        tasks = self._tasks_of(path)
        name = path.name
        if not tasks:
            tasks = self._plan.tasks
            if name.endswith(self._plan.input_ext):
                yield name.removesuffix(self._plan.input_ext)
            yield name
        for extension in (*(task.output_ext for task in tasks), ERROR_EXT):
            if name.endswith(extension):
                yield name.removesuffix(extension)

    def _tasks_of(self, path: Path) -> Sequence[PlannedTask]:
        """Return the task in whose directory a path leads, also from the run's own."""
        if len(path.parts) == 1:
            return ()
        parents = {os.path.realpath(path.parent), str(self._place / path.parent)}
        return [
            task
            for task in self._plan.tasks
            for directory in (task.errors, task.results)
            if not parents.isdisjoint(
                {
                    str(self._place / directory),
                    os.path.realpath(self._place / directory),
                }
            )
        ]

    def _unknown(self, given: str, name: str) -> str:
        extension = self._plan.input_ext
        is_there = bool(name) and os.path.lexists(self._place / INPUT_LINK / name)
        if is_there and not is_input_name(name, extension):
            return f"{given!r} is no input of the pipeline: these end in {extension!r}"
        if is_there:
            return f"{given!r} has only just arrived, or is no regular file; try again"
        names = [*self._known, *(stem + extension for stem in self._known)]
        hint = did_you_mean(name, _around(name, names))
        where = str(self._place)
        return f"No file {given!r} in the run of {where!r}{hint}"


def _around(name: str, known: Collection[str]) -> list[str]:
    """Return the names that begin or end most like another; of few, all.

    To compare 100,000 names letter by letter takes half a minute.
    """
    found: dict[str, None] = {}
    for order in (1, -1):
        ordered = sorted(each[::order] for each in known)
        place = bisect.bisect(ordered, name[::order])
        near = ordered[max(0, place - COMPARED) : place + COMPARED]
        found |= dict.fromkeys(each[::order] for each in near)
    return list(found)
