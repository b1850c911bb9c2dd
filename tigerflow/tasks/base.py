"""The contract of a task: the methods of a user's class, and `cli()`."""

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
    """Where and how a task's files are processed; the values are those of `kind`."""

    LOCAL = "local"
    LOCAL_ASYNC = "local_async"
    SLURM = "slurm"


class Task:
    """The base of all kinds; user classes derive from one of the kinds."""

    kind: ClassVar[TaskKind]
    #: Names of the options that this kind adds to the command line.
    kind_options: ClassVar[frozenset[str]] = frozenset()
    #: The most files in one call of `run_batch`, unless a pipeline file or the command
    #: line sets another number.
    batch_size: ClassVar[int] = 32

    def __init__(self, config: object = None) -> None:
        # Only for tests of packages: TigerFlow creates no instances of its own accord.
        self.config = config

    def __init_subclass__(cls) -> None:
        """Give methods that take `self` the only instance of the class."""
        super().__init_subclass__()
        for method, arguments in _METHODS.items():
            function = inspect.getattr_static(cls, method, None)
            if isinstance(function, FunctionType) and _takes_self(function, arguments):
                setattr(cls, method, _OnInstance(function))

    @classmethod
    def get_module_path(cls) -> str:
        """Return the path of the file that defines the class."""
        return str(Path(inspect.getfile(cls)).resolve())

    @classmethod
    def cli(cls) -> None:
        """Run this task as a command-line program.

        At the end of a module, this does nothing unless the module is the program
        (`python module.py`, `python -m module`): TigerFlow, workers and child processes
        import it.
        """
        if _is_module_being_imported(sys._getframe(1)):  # noqa: SLF001 -- who calls is the question
            return
        from tigerflow.cli.task import run_task_command  # noqa: PLC0415 -- heavy, and upward

        run_task_command(cls)

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """Return the parameters that the class and its bases declare in `Params`.

        Raises:
            ReservedParamError: an option of TigerFlow has the same name.
            ParamError: a parameter cannot be an option.
        """
        params = getattr(cls, "Params", None)
        return read_fields(cls.__name__, params, cls.kind_options | _batch_options(cls))


class _OnInstance:
    """A method that takes `self`; called on the class, it gets the only instance."""

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
                f"{task.__name__}() cannot be created for methods that take self: "
                f"{type(error).__name__}: {error}; write @staticmethod above them"
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
    """Check that a class can run.

    Raises:
        TaskDefinitionError: `run` is missing, or a method has the wrong signature; the
            error says what to change.
    """
    has_batches = has_method(task, "run_batch")
    # A task needs only one of the two.
    spared = "run" if has_batches else "run_batch"
    for method, arguments in _METHODS.items():
        if method != spared or has_method(task, method):
            _check_method(task, method, arguments)
    size = task.batch_size
    if has_batches and (type(size) is not int or size < 1):
        msg = f"{task.__name__}.batch_size must be a number of at least 1, not {size!r}"
        raise TaskDefinitionError(msg)


def has_method(task: type[Task], method: str) -> bool:
    """Tell whether a task defines a method that its kind does not define."""
    function = getattr(task, method, None)
    return function is not None and not hasattr(function, "__tigerflow_missing__")


def _batch_options(task: type[Task]) -> frozenset[str]:
    # Tasks without `run_batch` may have a parameter of that name.
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
    # `run_batch` may yield its results.
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
