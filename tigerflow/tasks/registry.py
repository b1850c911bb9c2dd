"""Tasks that have a name: built-in tasks, and those that packages register.

No task is imported here.
"""

import importlib
import pkgutil
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, entry_points

from tigerflow import __version__

#: The entry-point group in which packages register `module` or `module:Class`.
GROUP = "tigerflow.tasks"

#: Endings by which packages name the same task for different kinds.
_KIND_ENDINGS = ("-slurm", "-async", "-local")

_LIBRARY = "tigerflow.library"


@dataclass(frozen=True)
class RegisteredTask:
    """A task that has a name."""

    name: str
    #: `module` or `module:Class`.
    target: str
    #: Its distribution, and the version of that; empty if unknown.
    package: str
    version: str
    builtin: bool
    #: Why its name does not lead to this task; None if it does.
    problem: str | None = None

    @property
    def owner(self) -> str:
        """The package that has it, as part of a sentence."""
        return self.package or "another package"

    @property
    def module(self) -> str:
        """The import path of its module."""
        return self.target.partition(":")[0]


def builtin_tasks() -> list[RegisteredTask]:
    """Return the tasks that TigerFlow ships, by name."""
    package = importlib.import_module(_LIBRARY)
    return [
        RegisteredTask(
            name=module.name.replace("_", "-"),
            target=f"{_LIBRARY}.{module.name}",
            package="tigerflow",
            version=__version__,
            builtin=True,
        )
        for module in sorted(pkgutil.iter_modules(package.__path__))
        if not module.name.startswith("_")
    ]


def installed_tasks() -> list[RegisteredTask]:
    """Return the tasks of installed packages, sorted by name.

    If several have the same name, the name leads to the built-in task, else to the
    first one; the others have a `problem`.
    """
    owners = {task.name: task for task in builtin_tasks()}
    tasks = []
    for entry in entry_points(group=GROUP):
        task = _task(entry)
        owner = owners.setdefault(task.name, task)
        if owner is not task and task.problem is None:
            taken = (
                f"the name belongs to a task of {owner.owner}; "
                f"write 'module: {task.target}'"
            )
            task = replace(task, problem=taken)
        tasks.append(task)
    return sorted(tasks, key=lambda task: task.name)


def find_registered(name: str) -> RegisteredTask | None:
    """Return the task that this name leads to, or None."""
    found = _named(name)
    return found[0] if found else None


def rivals_of(task: RegisteredTask) -> list[RegisteredTask]:
    """Return the other tasks that are registered under a task's name."""
    return _named(task.name)[1:]


def find_owned(name: str) -> RegisteredTask | None:
    """Return the task with this name or module, if a package has it."""
    every = builtin_tasks() + installed_tasks()
    return next((task for task in every if name in {task.name, task.module}), None)


def siblings_of(task: RegisteredTask) -> list[RegisteredTask]:
    """Return tasks that seem to be the same task for other kinds.

    They are in the same package, and their names differ only in an ending such as
    `-local`.
    """
    return [
        other
        for other in builtin_tasks() + installed_tasks()
        if (other.package, _stem(other.name)) == (task.package, _stem(task.name))
        and other.problem is None
        and other.name != task.name
    ]


def registered_names() -> list[str]:
    """Return all names that `find_registered` knows."""
    return list(
        dict.fromkeys(task.name for task in builtin_tasks() + installed_tasks())
    )


def _stem(name: str) -> str:
    for ending in _KIND_ENDINGS:
        name = name.removesuffix(ending)
    return name


def _named(name: str) -> list[RegisteredTask]:
    return [task for task in builtin_tasks() + installed_tasks() if task.name == name]


def _task(entry: EntryPoint) -> RegisteredTask:
    package, version = _metadata(entry.dist) if entry.dist else ("", "")
    target = entry.value.partition("[")[0].strip()
    task = RegisteredTask(entry.name, target, package, version, builtin=False)
    if _is_target(target):
        return task
    return replace(task, problem=f"{target!r} is neither 'module' nor 'module:Class'")


def _is_target(text: str) -> bool:
    module, colon, name = text.partition(":")
    is_module = all(part.isidentifier() for part in module.split("."))
    return is_module and (not colon or name.isidentifier())


def _metadata(distribution: Distribution) -> tuple[str, str]:
    """Return name and version; empty if the metadata does not have them."""
    found = []
    for key in ("Name", "Version"):
        values = distribution.metadata.get_all(key)
        found.append(values[0] if values else "")
    return found[0], found[1]
