"""Load a task class by a path, an import path or a registered name."""

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

# Part of Python's message for a relative import in a file that it runs by its path.
_NO_PACKAGE = "no known parent package"


@dataclass(frozen=True)
class Reference:
    """Where a task class is: `path.py`, `pkg.module` or a name, then maybe `:Class`."""

    #: A file, or None.
    path: Path | None
    #: An import path or registered name, or None.
    module: str | None
    #: The class; None if the module has only one.
    class_name: str | None

    @classmethod
    def parse(cls, text: str, directory: Path) -> "Reference":
        """Parse a pipeline file's `module`; relative paths start in `directory`."""
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
    """Import a module and return its task class.

    The module's `X.cli()` does nothing meanwhile. Import paths are searched in
    `directory`, that of the pipeline file, too. A file's own directory comes first, as
    if the file ran as a script.

    Raises:
        TaskLoadError: there is no such module, it fails, or the class is missing or not
            the only one.
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
        # Child processes run it first, and must find the same modules as we do.
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
    """Check that a task file does not import a package that it hides by its name.

    Raises:
        TaskLoadError: it does. Most tasks would notice only in `setup`.
    """
    problem = hidden_module(file)
    if problem is not None:
        raise TaskLoadError(problem)


def _is_found(name: str, file: Path) -> bool:
    """Tell whether an import of `name` leads to the file, in child processes too."""
    # A name with a dot would be a module in a package.
    if _is_taken(name) or "." in name:
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin == str(file)


def _is_taken(name: str) -> bool:
    return name in sys.modules or name in sys.stdlib_module_names


def lead_children_to(task: type[Task]) -> None:
    """Let processes of `multiprocessing` find the objects that the task sends them.

    If its file cannot be imported by its name, they run the file first, just as the
    child processes of `python file.py` do.
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
            f"{name} exits while it is imported; "
            "move the code that exits under: if __name__ == '__main__'"
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
    """Return the sentence for a file that imports from its own package."""
    file, home = path.resolve(), directory.resolve()
    top = home if file.is_relative_to(home) else file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    name = ".".join(file.relative_to(top).with_suffix("").parts)
    what = f"{path.name} imports from its package ('from .… import …')"
    if "." not in name:
        return f"{what}, but is not in one; write 'from … import …' without the dot"
    where = "" if top == home else f", and add {str(top)!r} to PYTHONPATH"
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
        f"choose one, for example {name}:{next(iter(own))}"
    )
    raise TaskLoadError(msg)


def _named(classes: dict[str, type[Task]], name: str, class_name: str) -> type[Task]:
    if class_name in classes:
        return classes[class_name]
    known = ", ".join(sorted(classes)) or "none"
    hint = did_you_mean(class_name, list(classes))
    msg = f"{name} has no task {class_name!r} (tasks: {known}){hint}"
    raise TaskLoadError(msg)
