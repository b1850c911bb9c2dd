"""The contract of a task: what a user's class provides, and `cli()`."""

import inspect
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType, FunctionType, MethodType
from typing import Any, ClassVar

from tigerflow.errors import TaskDefinitionError
from tigerflow.tasks.fields import Field
from tigerflow.tasks.params import read_fields


class TaskKind(StrEnum):
    """Where and how a task's files are processed, as a pipeline file says it."""

    LOCAL = "local"
    LOCAL_ASYNC = "local_async"
    SLURM = "slurm"


class Task:
    """What all kinds share; user classes derive from one of the kinds."""

    kind: ClassVar[TaskKind]
    #: Names of the options that this kind adds to the command line.
    kind_options: ClassVar[frozenset[str]] = frozenset()
    #: Up to how many files `run_batch` gets at once, unless a pipeline file or the
    #: command line says otherwise.
    batch_size: ClassVar[int] = 32

    def __init__(self, config: object = None) -> None:
        # TigerFlow makes no instances: all methods are static. Tests of packages do.
        self.config = config

    def __init_subclass__(cls) -> None:
        """Have methods that take `self` get an instance, of which there is one."""
        super().__init_subclass__()
        for method, arguments in _METHODS.items():
            function = inspect.getattr_static(cls, method, None)
            if isinstance(function, FunctionType) and _takes_self(function, arguments):
                setattr(cls, method, _OnInstance(function))

    @classmethod
    def get_module_path(cls) -> str:
        """Return the path of the file that the class stands in."""
        return str(Path(inspect.getfile(cls)).resolve())

    @classmethod
    def cli(cls) -> None:
        """Run this task as a command-line program, with the arguments it was given.

        At the end of a module it acts only when that module is the program
        (`python module.py`, `python -m module`). While the module is imported, by
        TigerFlow, a worker or a child process, it does nothing.
        """
        if _is_module_being_imported(sys._getframe(1)):  # noqa: SLF001 -- who calls is the question
            return
        from tigerflow.cli.task import run_task_command  # noqa: PLC0415 -- heavy, and upward

        run_task_command(cls)

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """Return the parameters that the class and its bases declare in `Params`.

        Raises:
            ReservedParamError: a name is taken by TigerFlow's own options.
            ParamError: a parameter cannot be an option.
        """
        params = getattr(cls, "Params", None)
        return read_fields(cls.__name__, params, cls.kind_options | _batch_options(cls))


class _OnInstance:
    """A method that takes `self`, called on the class: on its only instance."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    def __get__(self, instance: Task | None, owner: type[Task]) -> MethodType:
        made = _instance_of(owner) if instance is None else instance
        return MethodType(self._function, made)


def _instance_of(task: type[Task]) -> Task:
    if "_instance" not in vars(task):
        try:
            takes_config = _binds(inspect.signature(task), ["config"])
            made = task(None) if takes_config else task()
            task._instance = made  # type: ignore[attr-defined] # noqa: SLF001 -- for us alone
        except Exception as error:  # the user's own __init__ raises what it likes
            msg = (
                f"{task.__name__}() cannot be made, for its methods that take self: "
                f"{type(error).__name__}: {error}; write @staticmethod before them"
            )
            raise TaskDefinitionError(msg) from error
    instance: Task = vars(task)["_instance"]
    return instance


def _takes_self(function: FunctionType, arguments: str) -> bool:
    signature = inspect.signature(function)
    words = arguments.split(", ")
    if next(iter(signature.parameters), "") == "self":
        return True
    return not _binds(signature, words) and _binds(signature, ["self", *words])


def _binds(signature: inspect.Signature, words: list[str]) -> bool:
    try:
        signature.bind(*words)
    except TypeError:
        return False
    return True


_METHODS = {
    "setup": "context",
    "run": "context, input_file, output_file",
    "run_batch": "context, pairs",
    "teardown": "context",
}


def check_definition(task: type[Task]) -> None:
    """Refuse a class that cannot run, in words that say what to change.

    Raises:
        TaskDefinitionError: `run` is missing, or a method has the wrong shape.
    """
    has_batches = has_method(task, "run_batch")
    # One of the two is enough.
    spared = "run" if has_batches else "run_batch"
    for method, arguments in _METHODS.items():
        if method != spared or has_method(task, method):
            _check_method(task, method, arguments)
    size = task.batch_size
    if has_batches and (type(size) is not int or size < 1):
        msg = f"{task.__name__}.batch_size is {size!r}; it is a number, at least 1"
        raise TaskDefinitionError(msg)


def has_method(task: type[Task], method: str) -> bool:
    """Tell whether a task has a method that the kinds leave to it."""
    function = getattr(task, method, None)
    return function is not None and not hasattr(function, "__tigerflow_missing__")


def _batch_options(task: type[Task]) -> frozenset[str]:
    # Others may have a parameter of that name.
    return frozenset({"batch_size"} if has_method(task, "run_batch") else ())


def _check_method(task: type[Task], method: str, arguments: str) -> None:
    function = getattr(task, method, None)
    asynchronous = task.kind is TaskKind.LOCAL_ASYNC
    word = "async def" if asynchronous else "def"
    shape = f"@staticmethod {word} {method}({arguments})"
    if function is None or not has_method(task, method):
        msg = f"Task {task.__name__} has no {method}; write {shape}"
        raise TaskDefinitionError(msg)
    if not _binds(inspect.signature(function), arguments.split(", ")):
        msg = f"{task.__name__}.{method} does not take ({arguments}); write {shape}"
        raise TaskDefinitionError(msg)
    _check_runs_when_called(task, method, function)
    if inspect.iscoroutinefunction(function) != asynchronous:
        other = "LocalTask or SlurmTask" if asynchronous else "LocalAsyncTask"
        found = "is not" if asynchronous else "is"
        msg = (
            f"{task.__name__}.{method} {found} 'async def'; "
            f"write {shape}, or derive from {other}"
        )
        raise TaskDefinitionError(msg)


def _check_runs_when_called(task: type[Task], method: str, function: Any) -> None:
    # Of `run_batch`, what it yields is what it returns.
    if inspect.isasyncgenfunction(function) or (
        inspect.isgeneratorfunction(function) and method != "run_batch"
    ):
        msg = (
            f"{task.__name__}.{method} has a 'yield', so calling it runs nothing; "
            "remove the 'yield'"
        )
        raise TaskDefinitionError(msg)


def _is_module_being_imported(caller: FrameType) -> bool:
    at_top_level = caller.f_code.co_name == "<module>"
    return at_top_level and caller.f_globals.get("__name__") != "__main__"
