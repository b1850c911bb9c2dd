"""The fields of a `Params` class as Typer options, and their descriptions.

Typer reads both the command line and the pipeline file, so both have the same types,
limits and error messages.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

import typer
import typer.main
from typer.models import OptionInfo

#: A value as text, as in the pipeline file: of one scalar, of several, or null.
ParamText = str | Sequence[str] | None

#: The options that show help; a task may define an option with the same name.
HELP_OPTIONS = {"help_option_names": ["--help", "-h"]}

#: Types of options whose text names a file.
_FILE_TYPES = (
    PurePath,
    typer.FileText,
    typer.FileBinaryRead,
    typer.FileBinaryWrite,
)


@dataclass(frozen=True)
class Field:
    """One parameter: its name in `context`, and its definition for Typer."""

    name: str
    parameter: inspect.Parameter

    @property
    def is_flag(self) -> bool:
        """Whether it is a bool, set by the flag `--x` or `--no-x`."""
        return _bare(self.parameter.annotation) is bool

    def names_file(self, index: int) -> bool:
        """Tell whether the text at an index is the path of a file or directory."""
        bare = _bare(self.parameter.annotation)
        items = typing.get_args(bare)
        if typing.get_origin(bare) is tuple and index < len(items):
            bare = items[index]
        elif items:
            bare = items[0]
        bare = _bare(bare)
        return isinstance(bare, type) and issubclass(bare, _FILE_TYPES)


@dataclass(frozen=True)
class FieldDescription:
    """One parameter in words, for help and JSON."""

    name: str
    flags: tuple[str, ...]
    type: str
    required: bool
    default: str | None
    help: str
    hidden: bool

    @property
    def keys(self) -> frozenset[str]:
        """The keys, written with `_`, that set it in a pipeline file."""
        return frozenset({self.name, *long_names(self.flags)})

    @property
    def default_text(self) -> str | None:
        """The default, as a pipeline file would have it; None if there is none."""
        is_flag = self.type == bool.__name__
        return self.default.lower() if self.default and is_flag else self.default


def build_command(
    parameters: Iterable[inspect.Parameter],
    function: Callable[..., Any],
    name: str | None = None,
    epilog: str | None = None,
) -> Any:
    """Return a Typer command with `parameters` as its options.

    Its `main(args, standalone_mode=False)` returns the result of `function`. Its help
    ends with `epilog`.
    """
    parameters = list(parameters)

    def command(**values: Any) -> Any:
        return function(**values)

    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # Typer reads it
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=HELP_OPTIONS,
    )
    app.command(name, epilog=epilog)(command)
    return typer.main.get_command(app)


def long_names(flags: Iterable[str]) -> list[str]:
    """Return the keys in a pipeline file for the flags that start with `--`."""
    long = [flag for flag in flags if flag.startswith("--")]
    return [flag.removeprefix("--").replace("-", "_") for flag in long]


def describe_fields(fields: Sequence[Field]) -> tuple[FieldDescription, ...]:
    """Describe each field by its command-line option."""
    command = build_command([field.parameter for field in fields], lambda **_: None)
    options = {option.name: option for option in command.params}
    return tuple(_describe(field, options[field.name]) for field in fields)


def _describe(field: Field, option: Any) -> FieldDescription:
    default = field.parameter.default
    if isinstance(default, OptionInfo):
        default = default.default
    required = bool(option.required)
    shown = None if required or callable(default) else shown_default(default)
    return FieldDescription(
        name=field.name,
        flags=(*option.opts, *option.secondary_opts),
        type=_type_name(field.parameter.annotation),
        required=required,
        default=shown,
        help=option.help or "",
        hidden=bool(option.hidden),
    )


def shown_default(default: object) -> str:
    """Return a default as a pipeline file would have it; empty for None."""
    value = getattr(default, "value", default)
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(str(getattr(each, "value", each)) for each in value)
    return str(value)


def _bare(annotation: Any) -> Any:
    """Strip Annotated and `| None` from a type."""
    if typing.get_origin(annotation) is Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _bare(inner[0]) if len(inner) == 1 else annotation
    return annotation


def _type_name(annotation: Any) -> str:
    bare = _bare(annotation)
    if isinstance(bare, type) and typing.get_origin(bare) is None:
        return bare.__name__
    return str(bare).replace("typing.", "").replace("pathlib.", "")
