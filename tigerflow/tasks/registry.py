"""The tasks that have a name: built-in ones, and those that installed packages register.

Nothing here imports a task.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version

#: The entry-point group in which packages register `module` or `module:Class`.
GROUP = "tigerflow.tasks"

_LIBRARY = "tigerflow.library"


@dataclass(frozen=True)
class RegisteredTask:
    """A task that can be referred to by its name."""

    name: str
    #: `module` or `module:Class`.
    target: str
    #: Version of the package that has it, or an empty string.
    version: str
    builtin: bool

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
            version=version("tigerflow"),
            builtin=True,
        )
        for module in sorted(pkgutil.iter_modules(package.__path__))
        if not module.name.startswith("_")
    ]


def installed_tasks() -> list[RegisteredTask]:
    """Return the tasks of installed packages, by name; the first of a name counts."""
    found: dict[str, RegisteredTask] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, _registered(entry))
    return [found[name] for name in sorted(found)]


def find_registered(name: str) -> RegisteredTask | None:
    """Return the task of this name, built-in ones first, or None."""
    for task in builtin_tasks() + installed_tasks():
        if task.name == name:
            return task
    return None


def registered_names() -> list[str]:
    """Return all names that `find_registered` knows."""
    return [task.name for task in builtin_tasks() + installed_tasks()]


def _registered(entry: EntryPoint) -> RegisteredTask:
    return RegisteredTask(
        name=entry.name,
        target=entry.value.partition("[")[0].strip(),
        version=entry.dist.version if entry.dist else "",
        builtin=False,
    )
