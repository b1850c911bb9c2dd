"""Write the reference pages beside this file from the code that they describe.

    python docs/reference/generate.py

What a key or setting means is told by the `#:` comment above it in the code.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from tigerflow.cli.root import app
from tigerflow.pipeline import schema
from tigerflow.pipeline.staging import STEPS
from tigerflow.settings import Settings, unit_of
from tigerflow.tasks.error_file import ErrorRecord

_MADE = (
    "<!-- Made by docs/reference/generate.py from the code; change that instead. -->\n"
)

_COMPLETION = (
    "After `tigerflow --install-completion`, the Tab key completes commands, options, "
    "names of tasks, pipeline files, and files that failed."
)


def pages() -> dict[str, str]:
    """Return the text of each page, by its file name."""
    return {
        "cli.md": _command_line(),
        "err.md": _error_files(),
        "settings.md": _settings(),
        "yaml.md": _pipeline_file(),
    }


def comments(owner: type) -> dict[str, str]:
    """Return the `#:` comment above each field of a class, its bases' included."""
    found: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if each.__module__.startswith("tigerflow."):
            found |= _own_comments(each)
    return found


def _own_comments(owner: type) -> dict[str, str]:
    lines = textwrap.dedent(inspect.getsource(owner)).splitlines()
    [definition] = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("#:"):
                    break
                above.insert(0, line.strip().removeprefix("#:").strip())
            found[node.target.id] = " ".join(above)
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _code(text: object) -> str:
    return f"`{text}`".replace("|", "\\|")


# The command line.


def _command_line() -> str:
    parts = [
        f"# Command line\n\n{_MADE}\n",
        "A [task](../tasks.md) is a program too: `--help` shows its options.\n",
        f"{_COMPLETION}\n",
    ]
    for words, command in _commands(typer.main.get_command(app), ["tigerflow"]):
        parts.append(_one_command(words, command))
    return "\n".join(parts)


def _commands(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    """Find all commands that are no groups; Typer's own classes have no public type."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, each in command.commands.items():
        if not each.hidden:
            yield from _commands(each, [*words, name])


def _one_command(words: list[str], command: Any) -> str:
    shown = [each for each in command.params if not each.hidden and each.help]
    arguments = [_usage(each) for each in shown if each.param_type_name == "argument"]
    usage = " ".join([*words, "[OPTIONS]", *arguments])
    rows = [[_names(each), _sentence(each)] for each in shown]
    parts = [
        f"## `{' '.join(words)}`\n\n",
        f"{inspect.cleandoc(command.help)}\n\n",
        f"```text\n{usage}\n```\n\n",
        _table(["argument or option", "meaning"], rows) if rows else "",
    ]
    if command.epilog:
        parts.append(f"\n{command.epilog.strip()}\n")
    return "".join(parts)


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _usage(param: Any) -> str:
    """Return how an argument stands on a command line."""
    name = _metavar(param)
    return (name if param.required else f"[{name}]") + "..." * (param.nargs != 1)


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return _code(_metavar(param))
    names = [*param.opts, *param.secondary_opts]
    return ", ".join(map(_code, sorted(names, key=len, reverse=True)))


def _sentence(param: Any) -> str:
    text = param.help.replace("|", "\\|")
    default = param.show_default
    if not isinstance(default, str):
        is_told = isinstance(param.default, int) and not param.is_flag
        default = param.default if is_told else None
    return text if default is None else f"{text} (default: {_code(default)})"


# The files with errors.


def _error_files() -> str:
    meaning = comments(ErrorRecord)
    rows = [
        [_code(each.name), meaning[each.name]]
        for each in dataclasses.fields(ErrorRecord)
    ]
    return (
        f"# Error files\n\n{_MADE}\n"
        "A file that failed in a task has an `.err` where its result would be: "
        "`OUTPUT_DIR/<task>/<stem>.err`. It is one JSON object, written whole or not "
        "at all, and goes when the file is tried again. "
        "`tigerflow report OUTPUT_DIR FILE` shows it to people.\n\n"
        f"{_table(['key', 'text'], rows)}"
    )


# The settings.


def _settings() -> str:
    meaning = comments(Settings)
    rows = [
        [
            _code(f"TIGERFLOW_{each.name.upper()}"),
            _code(f"{each.default:d} {unit_of(each)}".strip()),
            meaning[each.name],
        ]
        for each in dataclasses.fields(Settings)
    ]
    return (
        f"# Settings\n\n{_MADE}\n"
        "Environment variables, or lines of a file `.env` in the current directory "
        "(another one: `TIGERFLOW_ENV_FILE`); the environment wins. "
        "`tigerflow settings` shows each with its value, and where that comes from.\n\n"
        f"{_table(['variable', 'default', 'meaning'], rows)}"
    )


# The pipeline file.

_PIPELINE_FILE = """
A YAML file with `tasks`, a list of at least one, and, if wanted, `staging` with its
`steps`. See [Pipelines](../pipelines.md) for how they work together. A key without a
default is required.

"""


def _pipeline_file() -> str:
    common = schema.TaskSpec
    parts = [
        f"# Pipeline file\n\n{_MADE}\n",
        _PIPELINE_FILE,
        "## Each task\n\n",
        _keys(common, skip=()),
    ]
    for kind, model in schema.TASK_MODELS.items():
        parts += [
            f"\n## `kind: {kind}`\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n",
            _keys(model, skip=common.model_fields),
        ]
    resources = schema.WorkerResources
    parts += [
        f"\n### `worker_resources`\n\n{inspect.cleandoc(resources.__doc__ or '')}\n\n",
        _keys(resources, skip=()),
        "\n## `staging`: `steps`\n\n",
        _table(["`kind`", "other keys", "keeps"], map(_step, STEPS.values())),
    ]
    return "".join(parts)


def _keys(model: type[BaseModel], skip: Iterable[str]) -> str:
    meaning, shape = comments(model), model.model_json_schema()
    required, left_out = shape.get("required", ()), set(skip)
    types = shape.get("$defs", {})
    rows = [
        [_code(name), _type(of, types), _default(name in required, of), meaning[name]]
        for name, of in shape["properties"].items()
        if name not in left_out
    ]
    return _table(["key", "value", "default", "meaning"], rows)


def _step(model: type[BaseModel]) -> list[str]:
    shape = model.model_json_schema()
    required = shape.get("required", ())
    others = [
        f"{_code(name)}: {_type(of, {})}"
        + ("" if name in required else f" (default: {_default(required=False, of=of)})")
        for name, of in shape["properties"].items()
        if name != "kind"
    ]
    kind = shape["properties"]["kind"]["const"]
    return [_code(kind), "; ".join(others), inspect.cleandoc(model.__doc__ or "")]


_TYPES = {
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "object": "mapping",
    "string": "text",
}


def _type(of: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    options = [each for each in of.get("anyOf", [of]) if each.get("type") != "null"]
    return " or ".join(_one_type(each, definitions) for each in options)


def _one_type(of: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in of:
        return _one_type(definitions[of["$ref"].rpartition("/")[2]], definitions)
    if "enum" in of:
        return ", ".join(map(_code, of["enum"]))
    if of["type"] == "array":
        return f"list of {_one_type(of['items'], definitions)}s"
    limits = {"ge": "≥", "minimum": "≥", "gt": ">", "exclusiveMinimum": ">"}
    told = [f"{sign} {of[name]:g}" for name, sign in limits.items() if name in of]
    return " ".join([_TYPES[of["type"]], *told])


def _default(required: bool, of: Mapping[str, Any]) -> str:  # noqa: FBT001 -- a table's cell
    if required:
        return ""
    default = of.get("default")
    if isinstance(default, bool):
        return _code(str(default).lower())
    return _code(default) if default else "none"


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
