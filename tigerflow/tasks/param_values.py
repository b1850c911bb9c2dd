"""Convert params from the texts of a pipeline file, or of a command line, to values."""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any

from typer.models import OptionInfo

from tigerflow.errors import ParamError, did_you_mean
from tigerflow.tasks.fields import (
    Field,
    ParamText,
    build_command,
    long_names,
    shown_default,
)
from tigerflow.tasks.places import Places

_TRUE = frozenset({"true", "yes", "on", "1"})

_FALSE = frozenset({"false", "no", "off", "0"})

#: For the key of a negative flag, as in `no_cache: true`: word -> value of the field.
_OPPOSITE = dict.fromkeys(_TRUE, "false") | dict.fromkeys(_FALSE, "true")


def record_texts(
    command: Any, fields: Sequence[Field], texts: dict[str, ParamText]
) -> None:
    """Let `command`, when it runs, put the texts given for `fields` into `texts`.

    The keys are field names. In another process, `convert` returns the same values.
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
        # None means that the user has just been asked for it.
        if source is None or source.name in {"COMMANDLINE", "ENVIRONMENT"}:
            texts[option.name] = _as_text(value)
        return result

    return process_value


def _as_text(value: Any) -> ParamText:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    # A flag is True or False; a counting option is a number.
    return None if value is None else str(value)


def convert(
    fields: Sequence[Field],
    values: Mapping[str, ParamText],
    places: Places,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Convert texts of a pipeline file to typed values, and add defaults.

    Args:
        fields: those of the task.
        values: texts by the name of a field or of its option, with `-` or `_`. None,
            for null, is a value only for a field whose type allows None.
        places: where paths start.

    Returns:
        The values by field name, and the mistakes by key as written. If there are
        mistakes, values are missing.
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
    """Return the given key and text for each field, and mistakes by key."""
    by_name: dict[str, str] = {}
    opposites: dict[str, str] = {}
    for field in fields:
        option = _option_of(field)
        by_name |= dict.fromkeys(long_names(option.opts), field.name)
        opposites |= dict.fromkeys(long_names(option.secondary_opts), field.name)
    # A field's own name wins over the flags of others.
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
    """Return the texts of a field; those that are paths become absolute."""

    def locate(text: str, index: int = 0) -> str:
        is_path = field.names_file(index)
        return places.locate_text(text) if is_path else places.fill_in(text)

    if value is None or isinstance(value, str):
        return value and locate(value)
    return [locate(text, index) for index, text in enumerate(value)]


def _option_of(field: Field) -> Any:
    command = build_command([field.parameter], lambda **_: None)
    return next(each for each in command.params if each.name == field.name)


def _convert_one(field: Field, value: ParamText) -> Any:
    if field.is_flag and value is not None:
        return _convert_flag(value)
    command = build_command([field.parameter], lambda **values: values)
    option = next(each for each in command.params if each.name == field.name)
    # No user is there to answer, and standard input may belong to a protocol.
    option.prompt = None
    missing = option.required and not value and value != ""
    if option.multiple and value is not None and not value and not missing:
        # A command line cannot give an empty list in place of the default.
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
    """Return the value for a null in a pipeline file: None, and not the default."""
    default = _default_of(field.parameter)
    if default is ...:
        reason = "is required; give it a value"
    else:
        shown = f" ({shown_default(default)})" if not callable(default) else ""
        reason = f"cannot be null; leave it out to use the default{shown}"
    if default is not None and not _takes_none(field.parameter.annotation):
        raise ParamError(reason)
    nothing = Field(field.name, _defaulting_to_none(field.parameter))
    value = _convert_one(nothing, None)
    # A callback decides; without one, Typer would convert None to False or [].
    return value if _has_callback(field.parameter) else None


def _default_of(parameter: inspect.Parameter) -> Any:
    """Return the default value, or its factory; `...` if the field is required."""
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
    """Return the parameter with None as its default, ignoring the environment."""
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
        msg = f"expected one value, found a list of {len(texts)} values"
        raise ParamError(msg)
    long = next((opt for opt in option.opts if opt.startswith("--")), None)
    if option.nargs != 1:
        return [long or option.opts[0], *texts]
    if long is None:
        return [word for text in texts for word in (option.opts[0], text)]
    # With '=', an empty value, or one that starts with '-', is still a value.
    return [f"{long}={text}" for text in texts]


def _reason(error: Exception) -> str:
    # Usage errors explain themselves, whichever Click Typer is built on.
    if not hasattr(error, "format_message"):
        return ": ".join(filter(None, [type(error).__name__, str(error)]))
    message = str(error.format_message())
    # The place before "9 is not in the range …" is known: "Invalid value for '--x'".
    _, separator, reason = message.partition(": ")
    reason = reason if separator else message
    return reason.strip().rstrip(".").removeprefix("Value error, ")


def _listing(names: Iterable[str]) -> str:
    names = sorted(names)
    return f" (parameters: {', '.join(names)})" if names else " (it has none)"
