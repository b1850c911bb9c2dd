"""Make Typer's help name arguments and options consistently.

An argument is `PIPELINE`. An option takes `TEXT`, `PATH` or `INTEGER`; a flag nothing.
"""

from collections.abc import Callable
from typing import Any

#: Typer's names of types -> ours; other names only become capitals.
_WORDS = {"str": "TEXT", "int": "INTEGER", "list": "TEXT"}


def with_plain_help(command: Any) -> Any:
    """Return a Typer command, changed to show such help; its type is not public."""
    for each in getattr(command, "commands", {}).values():
        with_plain_help(each)
    get_help_option = command.get_help_option
    command.get_help_option = lambda context: _as_flag(get_help_option(context))
    for param in command.params:
        if param.param_type_name == "argument":
            _name_argument(param)
        elif getattr(param, "is_flag", False):
            _as_flag(param)
        if hasattr(param, "display_type"):
            param.display_type = _in_capitals(param.display_type)
    return command


def _as_flag(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option


def _name_argument(param: Any) -> None:
    name = param.metavar = param.metavar or param.name.upper()
    usage = (name if param.required else f"[{name}]") + "..." * (param.nargs != 1)
    param.get_usage_pieces = lambda _context: [usage]


def _in_capitals(display_type: Callable[[Any], str]) -> Callable[[Any], str]:
    def shown(context: Any) -> str:
        label = display_type(context).strip("<>").removesuffix(" range")
        if "|" in label:
            return f"[{label}]"
        # Each item of a list is a separate option; a tuple is several words.
        items = label.removeprefix("list[").removesuffix("]").split(",")
        return " ".join(_WORDS.get(item, item.upper()) for item in items)

    return shown
