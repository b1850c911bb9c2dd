"""A path, an import path or a registered name -> one task class."""

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tigerflow.errors import TaskLoadError, did_you_mean
from tigerflow.tasks import kinds
from tigerflow.tasks.base import Task
from tigerflow.tasks.children import TaskCall
from tigerflow.tasks.registry import find_registered, registered_names
from tigerflow.tasks.remarks import hidden_module
from tigerflow.tasks.source import program_class

#: The name that the main module of a program has in its child processes.
MAIN = "__mp_main__"

_KINDS = frozenset({kinds.LocalTask, kinds.LocalAsyncTask, kinds.SlurmTask})

# What Python says of a relative import in a file that it runs by its path.
_NO_PACKAGE = "no known parent package"


@dataclass(frozen=True)
class Reference:
    """Where a task class is found: `path.py`, `pkg.module` or a name, and `:Class`."""

    #: A file, or None.
    path: Path | None
    #: An import path or registered name, or None.
    module: str | None
    #: The class, or None for the only one.
    class_name: str | None

    @classmethod
    def parse(cls, text: str, directory: Path) -> "Reference":
        """Read what a pipeline file says; relative paths start at `directory`."""
        target, colon, class_name = text.rpartition(":")
        if not colon or not class_name.isidentifier():
            target, class_name = text, ""
        chosen = class_name or None
        if target.endswith(".py") or "/" in target:
            return cls(directory / target, None, chosen)
        return cls(None, target, chosen)

    def __str__(self) -> str:
        suffix = f":{self.class_name}" if self.class_name else ""
        return f"{self.path or self.module}{suffix}"


def load_task(reference: Reference, directory: Path) -> type[Task]:
    """Import the module and return the task class.

    Its `X.cli()` at the end does nothing meanwhile. `directory`, that of the pipeline
    file, is searched for import paths too; a file's own directory comes first, as when
    it is run as a script.

    Raises:
        TaskLoadError: there is no such module, it fails, or it has no one such class.
    """
    if reference.path is not None:
        module = _import_file(reference.path, directory)
        return _choose(module, reference.path.name, reference.class_name)
    name = reference.module or ""
    registered = find_registered(name)
    if registered is not None:
        if registered.problem is not None:
            msg = f"{name} cannot be used: {registered.problem}"
            raise TaskLoadError(msg)
        target = Reference.parse(registered.target, directory)
        chosen = reference.class_name or target.class_name
        return _choose(_import_name(target.module or ""), name, chosen)
    _search_first(directory)
    return _choose(_import_name(name), name, reference.class_name)


def _import_file(path: Path, directory: Path) -> ModuleType:
    file = _checked(path)
    name = file.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    if _is_taken(name):
        # Children, which run it first, must find what we import before it.
        _search_last(file.parent)
    else:
        _search_first(file.parent)
    refuse_hiding(file)
    if not _is_found(name, file):
        name = MAIN
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"{str(path)!r} cannot be imported"
        raise TaskLoadError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with TaskCall():
            spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, ImportError) and _NO_PACKAGE in str(error):
            raise TaskLoadError(_in_package(path, directory)) from error
        raise TaskLoadError(_reason(path.name, error, str(path))) from error
    return module


def _checked(path: Path) -> Path:
    if path.suffix != ".py":
        msg = f"{str(path)!r} is not a Python file; name a '.py' file"
        raise TaskLoadError(msg)
    if not path.is_file():
        msg = f"there is no file {str(path)!r}"
        raise TaskLoadError(msg)
    return path.resolve()


def refuse_hiding(file: Path) -> None:
    """Refuse a task file that imports a package which it hides.

    Raises:
        TaskLoadError: it does; most tasks would meet that in `setup` only.
    """
    problem = hidden_module(file)
    if problem is not None:
        raise TaskLoadError(problem)


def _is_found(name: str, file: Path) -> bool:
    """Tell whether an import of `name` leads to the file, in child processes too."""
    # With a dot, it would be that of a module in a package.
    if _is_taken(name) or "." in name:
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin == str(file)


def _is_taken(name: str) -> bool:
    return name in sys.modules or name in sys.stdlib_module_names


def lead_children_to(task: type[Task]) -> None:
    """Have processes that `multiprocessing` starts find what this module sends them.

    A file whose name leads to no module, or to another, they run first, as those of the
    program `python file.py` do.
    """
    module = sys.modules.get(task.__module__)
    if module is not None and module.__name__ == MAIN:
        main = sys.modules["__main__"]
        main.__spec__, main.__file__ = None, module.__file__


def _import_name(name: str) -> ModuleType:
    try:
        with TaskCall():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            hint = did_you_mean(name, registered_names())
            msg = f"there is no task and no module named {name!r}{hint}"
            raise TaskLoadError(msg) from error
        raise TaskLoadError(_reason(name, error, "")) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise TaskLoadError(_reason(name, error, "")) from error


def _reason(name: str, error: BaseException, path: str) -> str:
    if isinstance(error, SystemExit):
        return (
            f"{name} ends the program while it is imported; "
            "put what it does then under: if __name__ == '__main__'"
        )
    last = traceback.format_exception_only(error)[-1].strip()
    file = str(Path(path or ".").resolve())
    places = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    lines = [line for filename, line in places if filename in {path, file}]
    where = f"{name}:{lines[-1]}" if lines and lines[-1] else name
    return f"cannot import {where}: {last}"


def _in_package(path: Path, directory: Path) -> str:
    """Return what to do with a file that imports from the package it is in."""
    file, home = path.resolve(), directory.resolve()
    top = home if file.is_relative_to(home) else file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    name = ".".join(file.relative_to(top).with_suffix("").parts)
    what = f"{path.name} imports from its package ('from .… import …')"
    if "." not in name:
        return f"{what}, but stands in none; write 'from … import …' without the dot"
    where = "" if top == home else f", and put {str(top)!r} into PYTHONPATH"
    return f"{what}; write 'module: {name}'{where}"


def _search_first(directory: Path) -> None:
    text = str(directory)
    if text not in sys.path:
        sys.path.insert(0, text)


def _search_last(directory: Path) -> None:
    text = str(directory)
    if text not in sys.path:
        sys.path.append(text)


def _choose(module: ModuleType, name: str, class_name: str | None) -> type[Task]:
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Task)
        and value not in _KINDS
        and value is not Task
    }
    if class_name is not None:
        return _named(classes, name, class_name)
    own = {
        value.__name__: value
        for value in classes.values()
        if value.__module__ == module.__name__ and not value.__name__.startswith("_")
    } or {value.__name__: value for value in classes.values()}
    if len(own) == 1:
        return next(iter(own.values()))
    file = getattr(module, "__file__", None)
    chosen = program_class(Path(file)) if own and file else None
    if chosen in own:
        return own[chosen]
    if not own:
        msg = f"{name} has no task; write a class that derives from LocalTask"
        raise TaskLoadError(msg)
    listed = ", ".join(own)
    msg = (
        f"{name} has several tasks ({listed}); "
        f"say which one, for example {name}:{next(iter(own))}"
    )
    raise TaskLoadError(msg)


def _named(classes: dict[str, type[Task]], name: str, class_name: str) -> type[Task]:
    if class_name in classes:
        return classes[class_name]
    known = ", ".join(sorted(classes)) or "none"
    hint = did_you_mean(class_name, list(classes))
    msg = f"{name} has no task {class_name!r} (tasks: {known}){hint}"
    raise TaskLoadError(msg)
