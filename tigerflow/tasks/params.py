"""Read a task's `Params` class into typed fields, or say what is wrong with it."""

import dataclasses
import inspect
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from tigerflow.errors import ParamError, ReservedParamError
from tigerflow.tasks.context import RESERVED_ATTRIBUTES
from tigerflow.tasks.fields import Field, build_command, describe_fields

#: Options of every task's command line.
BASE_OPTIONS = frozenset(
    {"input_dir", "input_ext", "output_dir", "output_ext", "task_name", "once", "help"},
)

#: Attributes of classes that keep their fields elsewhere, and what these classes are.
_OTHER_MODELS = {
    "__pydantic_validator__": "a pydantic model",
    "__attrs_attrs__": "a class of attrs",
    "_field_defaults": "a NamedTuple",
}


def read_fields(
    task: str,
    params: type | None,
    reserved: Iterable[str],
) -> tuple[Field, ...]:
    """Return the fields of a Params class; those of its bases come first.

    Args:
        task: name of the task class, for messages.
        params: the class; None if the task has none.
        reserved: names of the options of the task's kind, beyond those of every task.

    Raises:
        ReservedParamError: an option of TigerFlow has the name of a field.
        ParamError: a type is missing, unknown, or not possible for an option.
    """
    if params is None:
        return ()
    _refuse_other_models(task, params)
    _refuse_bare_attributes(task, params)
    try:
        hints = typing.get_type_hints(params, include_extras=True)
    except NameError as error:
        msg = f"{task}.Params: {error}; import the type at the top of the module"
        raise ParamError(msg) from error
    except Exception as error:  # an annotation in quotes is code of any kind
        msg = f"{task}.Params: {error}"
        raise ParamError(msg) from error
    hints = {name: hint for name, hint in hints.items() if not _is_for_class(hint)}
    options = BASE_OPTIONS | set(reserved)
    if clash := (options | RESERVED_ATTRIBUTES) & hints.keys():
        raise ReservedParamError(task, sorted(clash))
    fields = tuple(
        Field(name, _parameter(task, name, hint, _declared_default(params, name)))
        for name, hint in hints.items()
    )
    _refuse_clashing_flags(task, fields, options)
    return fields


def _is_for_class(hint: Any) -> bool:
    """Tell whether an annotation is for the class: a ClassVar, or KW_ONLY."""
    if typing.get_origin(hint) is Annotated:
        return _is_for_class(typing.get_args(hint)[0])
    bare = typing.get_origin(hint) or hint
    return bare in (typing.ClassVar, dataclasses.KW_ONLY)


def _declared_default(params: type, name: str) -> Any:
    """Return a field's default value, or `...`; dataclass fields have theirs inside."""
    # A dataclass removes the attribute of a default_factory.
    declared = getattr(params, "__dataclass_fields__", {}).get(name)
    default = getattr(params, name, declared or ...)
    if not isinstance(default, dataclasses.Field):
        return default
    if default.default_factory is not dataclasses.MISSING:
        return default.default_factory()
    return ... if default.default is dataclasses.MISSING else default.default


def _refuse_other_models(task: str, params: type) -> None:
    """Refuse classes that do not keep their fields as attributes."""
    for mark, name in _OTHER_MODELS.items():
        if hasattr(params, mark):
            msg = (
                f"{task}.Params is {name}; write a plain class or a dataclass, "
                "with limits as 'Annotated[int, typer.Option(min=1)]'"
            )
            raise ParamError(msg)


def _refuse_bare_attributes(task: str, params: type) -> None:
    annotated = {
        name for base in params.__mro__ for name in inspect.get_annotations(base)
    }
    for name, value in vars(params).items():
        plain = not name.startswith("_") and name not in annotated
        if plain and not callable(value) and not isinstance(value, property):
            msg = (
                f"{task}.Params.{name} has no type; write '{name}: {_kind(value)} = …'"
            )
            raise ParamError(msg)


def _refuse_clashing_flags(
    task: str,
    fields: Sequence[Field],
    owned: Iterable[str],
) -> None:
    owners = {f"--{name.replace('_', '-')}": "TigerFlow" for name in owned}
    for described in describe_fields(fields):
        for flag in described.flags:
            if flag in owners:
                msg = (
                    f"{task}.Params.{described.name} has the flag {flag}, "
                    f"which belongs to {owners[flag]}; choose another"
                )
                raise ParamError(msg)
            owners[flag] = f"{task}.Params.{described.name}"


def _kind(value: object) -> str:
    return type(value).__name__


def _parameter(
    task: str,
    name: str,
    hint: Any,
    default: Any,
) -> inspect.Parameter:
    extras = getattr(hint, "__metadata__", ())
    if any(isinstance(extra, ArgumentInfo) for extra in extras) or isinstance(
        default,
        ArgumentInfo,
    ):
        msg = (
            f"{task}.Params.{name} is a typer.Argument; "
            "use typer.Option, so that it has a name in a pipeline"
        )
        raise ParamError(msg)
    is_option = isinstance(default, OptionInfo) or any(
        isinstance(extra, OptionInfo) for extra in extras
    )
    if not is_option:
        # Without this, Typer makes a required parameter a positional argument.
        hint = Annotated[hint, typer.Option()]
    try:
        parameter = inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hint,
            default=inspect.Parameter.empty if default is ... else default,
        )
        build_command([parameter], lambda **_: None)
    except Exception as error:  # Typer raises what it likes for types it can't take
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{task}.Params.{name} cannot be an option: {reason}"
        raise ParamError(msg) from error
    return parameter
