"""What a pipeline makes of each file, for those who read a run directory later.

`compile` writes it to OUT/.tigerflow/pipeline.json, also when the workflow itself goes
elsewhere; so a run directory can be understood without the pipeline file, and after
plain Snakemake alone. One JSON object::

    {"input_ext": ".txt",
     "tasks": [{"name": "embed", "depends_on": null,
                "output_ext": ".npy", "keep_output": true}]}
"""

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

from tigerflow.errors import NoRunError, PlanError
from tigerflow.files import read_regular
from tigerflow.naming import error_name, output_name
from tigerflow.rundir.layout import PLAN, error_directory, result_directory

#: More bytes than any plan has.
PLAN_LIMIT = 1 << 24


@dataclass(frozen=True)
class PlannedTask:
    """One task: what it starts from, and the form of its outputs."""

    name: str
    #: Another task, or None for the input directory.
    depends_on: str | None
    output_ext: str
    keep_output: bool

    @cached_property
    def results(self) -> Path:
        """Where its outputs are, relative to the run directory."""
        return result_directory(self.name, keep_output=self.keep_output)

    @cached_property
    def errors(self) -> Path:
        """Where its `.err` files are, relative to the run directory."""
        return error_directory(self.name)

    def output(self, stem: str) -> str:
        """Return the path of a file's output, relative to the run directory."""
        # Not by pathlib: some are made for each file again and again.
        return f"{self.results}/{output_name(stem, self.output_ext)}"

    def error(self, stem: str) -> str:
        """Return the path of a file's `.err`, relative to the run directory."""
        return f"{self.errors}/{error_name(stem)}"


@dataclass(frozen=True)
class Plan:
    """The tasks of a pipeline, each after the one it depends on."""

    input_ext: str
    tasks: tuple[PlannedTask, ...]

    @cached_property
    def parents(self) -> dict[str, str | None]:
        """By task: the one that it depends on, or None."""
        return {task.name: task.depends_on for task in self.tasks}

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The tasks that no other depends on."""
        return frozenset(self.parents.keys() - self.parents.values())

    @cached_property
    def targets(self) -> frozenset[str]:
        """The tasks whose outputs stay: those of leaves, and those that are kept."""
        return self.leaves | {task.name for task in self.tasks if task.keep_output}

    @cached_property
    def directories(self) -> tuple[Path, ...]:
        """Where outputs and errors are, relative to the run directory."""
        both = [place for task in self.tasks for place in (task.results, task.errors)]
        return tuple(dict.fromkeys(both))

    def lineage(self, task: str) -> frozenset[str]:
        """Return the task, and all that it depends on."""
        names = [task]
        while (parent := self.parents[names[-1]]) is not None:
            names.append(parent)
        return frozenset(names)

    def reach(self, tasks: Iterable[str]) -> frozenset[str]:
        """Return these tasks, and all that depend on them."""
        found = set(tasks)
        for task in self.tasks:
            if task.depends_on in found:
                found.add(task.name)
        return frozenset(found)

    def input_ext_of(self, task: PlannedTask) -> str:
        """Return the extension of the files that a task starts from."""
        before = {each.name: each.output_ext for each in self.tasks}
        return before.get(task.depends_on or "", self.input_ext)

    def files_of(
        self, stem: str, since: Collection[str] | None = None
    ) -> tuple[Path, ...]:
        """Return all outputs and errors that a file may have.

        Or only those of the tasks `since`, and of all that depend on them. Paths are
        relative to the run directory.
        """
        chosen = self.parents if since is None else self.reach(since)
        return tuple(
            Path(path)
            for task in self.tasks
            if task.name in chosen
            for path in (task.output(stem), task.error(stem))
        )

    def error_path(self, task: str, stem: str) -> Path:
        """Return where a task's `.err` of a file is, relative to the run directory."""
        return error_directory(task) / error_name(stem)

    @property
    def text(self) -> str:
        """The plan as `read_plan` understands it."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_plan(output_dir: Path) -> Plan:
    """Return the plan of a run directory.

    Raises:
        NoRunError: the directory has none: no pipeline was compiled for it.
        PlanError: it has one that cannot be understood.
    """
    known = [field.name for field in fields(PlannedTask)]
    try:
        value = json.loads(read_regular(output_dir / PLAN, PLAN_LIMIT)[0])
        # A newer version may have noted more.
        tasks = tuple(PlannedTask(*(t[key] for key in known)) for t in value["tasks"])
        return Plan(value["input_ext"], tasks)
    except OSError as error:
        if os.path.lexists(output_dir / PLAN):
            raise PlanError(output_dir / PLAN, error.strerror or str(error)) from error
        raise NoRunError(output_dir) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = (
            "it is damaged, or a newer TigerFlow wrote it. Update this one, or start "
            "the pipeline again, which writes a new plan"
        )
        raise PlanError(output_dir / PLAN, reason) from error
