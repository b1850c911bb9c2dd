"""A task's `Params` class: typed fields, and values for them from text.

Typer does the work for the command line and for the pipeline file alike, so that both
take the same types, check the same limits, and complain in the same words.
"""

import contextlib
import dataclasses
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any

import typer
import typer.main
from typer.models import ArgumentInfo, OptionInfo

from tigerflow.errors import ParamError, ReservedParamError, did_you_mean
from tigerflow.tasks.context import RESERVED_ATTRIBUTES

#: A value as the pipeline file has it: the text of one scalar, of several, or null.
ParamText = str | Sequence[str] | None

#: What every task's command line owns.
BASE_OPTIONS = frozenset(
    {"input_dir", "input_ext", "output_dir", "output_ext", "task_name", "once", "help"},
)

#: What shows help; a task's own option may be called so instead.
HELP_OPTIONS = {"help_option_names": ["--help", "-h"]}

#: In a value, it stands for the output directory.
OUTPUT_DIR = "{output_dir}"

#: Types of options whose text names a file.
_FILE_TYPES = (
    PurePath,
    typer.FileText,
    typer.FileBinaryRead,
    typer.FileBinaryWrite,
)

#: Attributes of classes that only look like ours.
_OTHER_MODELS = {
    "__pydantic_validator__": "a pydantic model",
    "__attrs_attrs__": "a class of attrs",
    "_field_defaults": "a NamedTuple",
}

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

#: What is meant by a word for the flag that switches off, as in `no_cache: true`.
_OPPOSITE = dict.fromkeys(_TRUE, "false") | dict.fromkeys(_FALSE, "true")


@dataclass(frozen=True)
class Places:
    """Where the paths among params start."""

    #: That of relative ones.
    directory: Path
    #: What `{output_dir}` stands for; None when a pipeline is checked for any.
    output_dir: Path | None = None

    def locate(self, value: Any) -> Any:
        """Return a value with its paths made absolute; of a list, each item.

        A text keeps what it is, but for `{output_dir}`.
        """
        match value:
            case list():
                return [self.locate(each) for each in value]
            case tuple():
                return tuple(self.locate(each) for each in value)
            case Path():
                return type(value)(self.locate_text(str(value)))
            case str() if type(value) is str:
                return self.fill_in(value)
            case _:
                return value

    def locate_text(self, text: str) -> str:
        """Return the text of a path made absolute; `-` is for standard input."""
        text = self.fill_in(text)
        if text == "-":
            return text
        with contextlib.suppress(RuntimeError):
            # There may be no such user; then it is a name like any other.
            text = str(Path(text).expanduser()) if text.startswith("~") else text
        return os.path.join(self.directory, text)  # noqa: PTH118 -- keeps a "/" at the end

    def leave_open(self, value: ParamText) -> bool:
        """Tell whether nothing can be said of a value yet: it has `{output_dir}`."""
        texts = [value] if isinstance(value, str) else value or ()
        return self.output_dir is None and any(OUTPUT_DIR in text for text in texts)

    def fill_in(self, text: str) -> str:
        """Return a text with the output directory in its place."""
        if self.output_dir is None:
            return text
        return text.replace(OUTPUT_DIR, str(self.output_dir))


@dataclass(frozen=True)
class Field:
    """One parameter: its name in `context` and how Typer takes it."""

    name: str
    parameter: inspect.Parameter

    @property
    def is_flag(self) -> bool:
        """Whether it is a bool, given by the presence of `--x` or `--no-x`."""
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
    """One parameter in words, for help texts and JSON."""

    name: str
    flags: tuple[str, ...]
    type: str
    required: bool
    default: str | None
    help: str
    hidden: bool

    @property
    def keys(self) -> frozenset[str]:
        """The keys, written with `_`, that give it in a pipeline file."""
        return frozenset({self.name, *_long_names(self.flags)})

    @property
    def default_text(self) -> str | None:
        """The default, as a pipeline file would give it; None if there is none."""
        is_flag = self.type == bool.__name__
        return self.default.lower() if self.default and is_flag else self.default


def read_fields(
    task: str,
    params: type | None,
    reserved: Iterable[str],
) -> tuple[Field, ...]:
    """Return the fields of a Params class, those of its bases first.

    Args:
        task: name of the task class, for messages.
        params: the class, or None when the task declares none.
        reserved: option names of the task's kind, beside those of every task.

    Raises:
        ReservedParamError: a field has a name that TigerFlow's own options have.
        ParamError: an annotation is missing, unknown, or no option.
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


def build_command(
    parameters: Iterable[inspect.Parameter],
    function: Callable[..., Any],
    name: str | None = None,
) -> Any:
    """Return the Typer command whose options are `parameters`.

    Its `main(args, standalone_mode=False)` returns what `function` does.
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
    app.command(name)(command)
    return typer.main.get_command(app)


def record_texts(
    command: Any, fields: Sequence[Field], texts: dict[str, ParamText]
) -> None:
    """Have `command`, when it is run, put the texts given for `fields` into `texts`.

    By field name; `convert` makes the same values of them in another process.
    """
    names = {field.name for field in fields}
    for option in command.params:
        if option.name in names:
            option.process_value = _recorded(option, texts)


def _recorded(option: Any, texts: dict[str, ParamText]) -> Callable[[Any, Any], Any]:
    process = option.process_value

    def process_value(context: Any, value: Any) -> Any:
        result = process(context, value)
        source = context.get_parameter_source(option.name)
        # None: the user was asked for it, and has just answered.
        if source is None or source.name in {"COMMANDLINE", "ENVIRONMENT"}:
            texts[option.name] = _as_text(value)
        return result

    return process_value


def _as_text(value: Any) -> ParamText:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    # A flag is True or False, one that is counted a number.
    return None if value is None else str(value)


def convert(
    fields: Sequence[Field],
    values: Mapping[str, ParamText],
    places: Places,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Turn texts of a pipeline file into typed values, defaults included.

    A key is the name of a field or that of its option, written with `-` or `_`. A null
    is None for a field that may be None. Returns the values by field name, and the
    mistakes by key as written; with mistakes, the values are incomplete.
    """
    given, mistakes = _by_field(fields, values)
    result: dict[str, Any] = {}
    for field in fields:
        key, value = given.get(field.name, (field.name, None))
        try:
            if field.name in given and value is None:
                result[field.name] = _convert_null(field)
            elif places.leave_open(value):
                result[field.name] = value
            else:
                text = _located(field, value, places)
                result[field.name] = places.locate(_convert_one(field, text))
        except ParamError as error:
            mistakes[key] = str(error)
    return result, mistakes


def _by_field(
    fields: Sequence[Field], values: Mapping[str, ParamText]
) -> tuple[dict[str, tuple[str, ParamText]], dict[str, str]]:
    """Return the key and the text that is given for each field, and mistakes by key."""
    by_name: dict[str, str] = {}
    opposites: dict[str, str] = {}
    for field in fields:
        option = _option_of(field)
        by_name |= dict.fromkeys(_long_names(option.opts), field.name)
        opposites |= dict.fromkeys(_long_names(option.secondary_opts), field.name)
    # A field's own name is never another's.
    by_name = {**opposites, **by_name, **{field.name: field.name for field in fields}}
    mistakes: dict[str, str] = {}
    given: dict[str, tuple[str, ParamText]] = {}
    for key, value in values.items():
        written = key.replace("-", "_")
        name = by_name.get(written)
        if name is None:
            hint = did_you_mean(written, list(by_name.keys() - opposites.keys()))
            hint = hint or _listing(field.name for field in fields)
            mistakes[key] = f"is not a parameter of the task{hint}"
        elif name in given:
            mistakes[key] = f"is given twice, also as {given[name][0]!r}"
        elif written in opposites and written != name and isinstance(value, str):
            given[name] = (key, _OPPOSITE.get(value.lower(), value))
        else:
            given[name] = (key, value)
    return given, mistakes


def _located(field: Field, value: ParamText, places: Places) -> ParamText:
    """Return the texts of a field, with those of paths made absolute."""

    def locate(text: str, index: int = 0) -> str:
        is_path = field.names_file(index)
        return places.locate_text(text) if is_path else places.fill_in(text)

    if value is None or isinstance(value, str):
        return value and locate(value)
    return [locate(text, index) for index, text in enumerate(value)]


def _option_of(field: Field) -> Any:
    command = build_command([field.parameter], lambda **_: None)
    return next(each for each in command.params if each.name == field.name)


def _long_names(flags: Iterable[str]) -> list[str]:
    """Return flags with `--` as a pipeline file may have them."""
    long = [flag for flag in flags if flag.startswith("--")]
    return [flag.removeprefix("--").replace("-", "_") for flag in long]


def describe_fields(fields: Sequence[Field]) -> tuple[FieldDescription, ...]:
    """Describe each field as its command-line option presents it."""
    command = build_command([field.parameter for field in fields], lambda **_: None)
    options = {option.name: option for option in command.params}
    return tuple(_describe(field, options[field.name]) for field in fields)


def _describe(field: Field, option: Any) -> FieldDescription:
    default = field.parameter.default
    if isinstance(default, OptionInfo):
        default = default.default
    required = bool(option.required)
    shown = None if required or callable(default) else _shown(default)
    return FieldDescription(
        name=field.name,
        flags=(*option.opts, *option.secondary_opts),
        type=_type_name(field.parameter.annotation),
        required=required,
        default=shown,
        help=option.help or "",
        hidden=bool(option.hidden),
    )


def _shown(default: object) -> str:
    value = getattr(default, "value", default)
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(str(getattr(each, "value", each)) for each in value)
    return str(value)


def _is_for_class(hint: Any) -> bool:
    """Tell whether an annotation is no parameter: a ClassVar, or a dataclass's mark."""
    if typing.get_origin(hint) is Annotated:
        return _is_for_class(typing.get_args(hint)[0])
    bare = typing.get_origin(hint) or hint
    return bare in (typing.ClassVar, dataclasses.KW_ONLY)


def _declared_default(params: type, name: str) -> Any:
    """Return a field's default value, or `...`; those of dataclasses as well."""
    # In a dataclass, the attribute of a default_factory is gone.
    declared = getattr(params, "__dataclass_fields__", {}).get(name)
    default = getattr(params, name, declared or ...)
    if not isinstance(default, dataclasses.Field):
        return default
    if default.default_factory is not dataclasses.MISSING:
        return default.default_factory()
    return ... if default.default is dataclasses.MISSING else default.default


def _refuse_other_models(task: str, params: type) -> None:
    """Refuse classes that keep their fields elsewhere than in their attributes."""
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
                    f"which is that of {owners[flag]}; give it another"
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


def _convert_one(field: Field, value: ParamText) -> Any:
    if field.is_flag and value is not None:
        return _convert_flag(value)
    command = build_command([field.parameter], lambda **values: values)
    option = next(each for each in command.params if each.name == field.name)
    # Nobody is there to be asked, and standard input may belong to a protocol.
    option.prompt = None
    missing = option.required and not value and value != ""
    if option.multiple and value is not None and not value and not missing:
        # No command line can say this: an empty list instead of the default one.
        return []
    try:
        return command.main(_arguments(option, value), standalone_mode=False)[
            field.name
        ]
    except ParamError:
        raise
    except Exception as error:  # a callback or parser of the task raises what it likes
        reason = "is required; give it a value" if missing else _reason(error)
        raise ParamError(reason) from error


def _convert_null(field: Field) -> Any:
    """Return what a null in a pipeline file means: not the default, but None."""
    default = _default_of(field.parameter)
    if default is ...:
        reason = "is required; give it a value"
    else:
        shown = f" ({_shown(default)})" if not callable(default) else ""
        reason = f"cannot be null; leave it out to get the default{shown}"
    if default is not None and not _takes_none(field.parameter.annotation):
        raise ParamError(reason)
    nothing = Field(field.name, _defaulting_to_none(field.parameter))
    value = _convert_one(nothing, None)
    # A callback has the last word; Typer itself makes False or [] of some.
    return value if _has_callback(field.parameter) else None


def _default_of(parameter: inspect.Parameter) -> Any:
    """Return the default value, what makes it, or `...` where it is required."""
    default = parameter.default
    for info in _infos(parameter):
        if info.default_factory is not None:
            return info.default_factory
        if info is default:
            return info.default
    return ... if default is inspect.Parameter.empty else default


def _infos(parameter: inspect.Parameter) -> list[OptionInfo]:
    extras = (*getattr(parameter.annotation, "__metadata__", ()), parameter.default)
    return [extra for extra in extras if isinstance(extra, OptionInfo)]


def _has_callback(parameter: inspect.Parameter) -> bool:
    return any(info.callback is not None for info in _infos(parameter))


def _defaulting_to_none(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter with None as its default, whatever the environment has."""
    hint, default = parameter.annotation, parameter.default
    if typing.get_origin(hint) is Annotated:
        bare, *extras = typing.get_args(hint)
        hint = Annotated[bare, *map(_without_default, extras)]
    default = _without_default(default)
    if isinstance(default, OptionInfo):
        default.default = None
    else:
        default = None
    return parameter.replace(annotation=hint, default=default)


def _without_default(extra: Any) -> Any:
    if isinstance(extra, OptionInfo):
        extra = copy(extra)
        extra.default_factory = extra.envvar = None
    return extra


def _takes_none(annotation: Any) -> bool:
    """Tell whether a type allows None."""
    if typing.get_origin(annotation) is Annotated:
        return _takes_none(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(map(_takes_none, typing.get_args(annotation)))
    return annotation in (Any, None, type(None))


def _convert_flag(value: str | Sequence[str]) -> bool:
    word = value.lower() if isinstance(value, str) else ""
    if word not in _TRUE | _FALSE:
        msg = f"expected true or false, found {value!r}"
        raise ParamError(msg)
    return word in _TRUE


def _arguments(option: Any, value: ParamText) -> list[str]:
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else list(value)
    if option.count and texts[0].isdigit():
        return [option.opts[0]] * int(texts[0])
    many = option.multiple or option.nargs != 1
    if not many and not isinstance(value, str):
        msg = f"expected one value, found a list of {len(texts)}"
        raise ParamError(msg)
    long = next((opt for opt in option.opts if opt.startswith("--")), None)
    if option.nargs != 1:
        return [long or option.opts[0], *texts]
    if long is None:
        return [word for text in texts for word in (option.opts[0], text)]
    # With '=', a value that is empty or starts with '-' stays a value.
    return [f"{long}={text}" for text in texts]


def _reason(error: Exception) -> str:
    # Usage errors of Typer, whichever Click it is built on, explain themselves.
    if not hasattr(error, "format_message"):
        return ": ".join(filter(None, [type(error).__name__, str(error)]))
    message = str(error.format_message())
    # "Invalid value for '--x': 9 is not in the range …": the place is told already.
    _, separator, reason = message.partition(": ")
    reason = reason if separator else message
    return reason.strip().rstrip(".").removeprefix("Value error, ")


def _listing(names: Iterable[str]) -> str:
    names = sorted(names)
    return f" (it has: {', '.join(names)})" if names else " (it has none)"


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
