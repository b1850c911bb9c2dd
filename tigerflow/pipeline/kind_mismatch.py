"""The mistake of a task whose kind in the pipeline file is not that of its class."""

from pathlib import Path

from tigerflow.errors import TaskLoadError
from tigerflow.tasks.base import TaskKind
from tigerflow.tasks.describe import TaskDescription
from tigerflow.tasks.inquiry import ask_task
from tigerflow.tasks.registry import RegisteredTask, find_owned, siblings_of

_BASE_CLASSES = {
    TaskKind.LOCAL: "LocalTask",
    TaskKind.LOCAL_ASYNC: "LocalAsyncTask",
    TaskKind.SLURM: "SlurmTask",
}


def kind_mistake(
    kind: TaskKind, module: str, directory: Path, found: TaskDescription
) -> str:
    """Return the mistake, with what the user can do about it.

    Users can change their own classes. They cannot change a package's, but the package
    may have the same task for the other kind.
    """
    sentence = (
        f"is {kind.value!r}, but {found.class_name} is a "
        f"{_BASE_CLASSES[TaskKind(found.kind)]}; write 'kind: {found.kind}'"
    )
    registered = find_owned(module.partition(":")[0])
    if registered is None:
        return f"{sentence}, or derive {found.class_name} from {_BASE_CLASSES[kind]}"
    name = _sibling(registered, kind, directory)
    return f"{sentence}, or 'module: {name}'" if name else sentence


def _sibling(task: RegisteredTask, kind: TaskKind, directory: Path) -> str | None:
    for sibling in siblings_of(task):
        try:
            if ask_task(sibling.name, directory).kind == kind:
                return sibling.name
        except TaskLoadError:
            continue
    return None
