"""`tigerflow tasks list` and `tigerflow tasks info`."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tigerflow.cli._completion import complete_task
from tigerflow.cli._errors import report_errors
from tigerflow.errors import TaskLoadError, UnknownTaskError
from tigerflow.tasks.describe import TaskDescription
from tigerflow.tasks.fields import FieldDescription
from tigerflow.tasks.inquiry import ask_task
from tigerflow.tasks.registry import (
    RegisteredTask,
    builtin_tasks,
    find_registered,
    installed_tasks,
    registered_names,
    rivals_of,
)

app = typer.Typer(help="Show built-in and installed tasks.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON")]

#: The most tasks loaded at once.
LOADED_AT_ONCE = 4


@dataclass(frozen=True)
class _Shown:
    """A task that has a name, with its description, or why there is none."""

    task: RegisteredTask
    described: TaskDescription | None
    problem: str | None

    @property
    def summary(self) -> str:
        """One line about the task; for a broken task, the reason."""
        if self.described is None:
            return f"cannot be used: {' '.join((self.problem or '').split())}"
        text = self.described.module_doc or self.described.doc
        return text.partition("\n")[0] or "(no description)"


@app.command("list")
def list_command(
    *,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Show the module of each task"),
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the built-in tasks and those of installed packages."""
    builtin, installed = _load(builtin_tasks()), _load(installed_tasks())
    if as_json:
        rows = {
            "builtin": [_row(shown) for shown in builtin],
            "installed": [_row(shown) for shown in installed],
        }
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_group("Built-in tasks:", builtin, verbose=verbose)
    _print_group("Installed tasks:", installed, verbose=verbose)


@app.command("info")
def info_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a task", autocompletion=complete_task
        ),
    ],
    *,
    as_json: _Json = False,
) -> None:
    """Show a task's description and its parameters."""
    with report_errors():
        task = find_registered(name)
        if task is None:
            raise UnknownTaskError(name, registered_names())
        shown = _load([task])[0]
        if as_json:
            typer.echo(json.dumps(_info(shown), indent=2))
            return
        typer.echo("\n".join(_info_lines(shown, rivals_of(task))))


def _load(tasks: Sequence[RegisteredTask]) -> list[_Shown]:
    """Load each task in its own process, so that a broken one harms no other."""
    with ThreadPoolExecutor(max_workers=LOADED_AT_ONCE) as pool:
        return list(pool.map(_describe, tasks))


def _describe(task: RegisteredTask) -> _Shown:
    if task.problem is not None:
        return _Shown(task, None, task.problem)
    try:
        return _Shown(task, ask_task(task.name, Path.cwd()), None)
    except TaskLoadError as error:
        return _Shown(task, None, str(error))


def _print_group(title: str, group: list[_Shown], *, verbose: bool) -> None:
    if not group:
        return
    typer.echo(title)
    for shown in group:
        task = shown.task
        where = f": {task.target}" if verbose and task.target else ""
        version = f" ({task.version})" if task.version else ""
        typer.echo(f"  {task.name}{where}{version} - {shown.summary}")


def _row(shown: _Shown) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": shown.task.name,
        "module": shown.task.module,
        "version": shown.task.version,
        "description": shown.summary,
    }
    return row if shown.problem is None else {**row, "error": shown.problem}


def _info(shown: _Shown) -> dict[str, Any]:
    task, described = shown.task, shown.described
    info: dict[str, Any] = {
        "name": task.name,
        "source": _source(task),
        "module": task.module,
        "version": task.version,
    }
    if described is None:
        return {**info, "error": shown.problem}
    return {
        **info,
        "class": described.class_name,
        "kind": described.kind,
        "description": described.module_doc or described.doc,
        "params": [_param(field) for field in described.fields if not field.hidden],
    }


def _param(field: FieldDescription) -> dict[str, Any]:
    return {
        "name": field.name,
        "flags": list(field.flags),
        "type": field.type,
        "required": field.required,
        "default": field.default,
        "help": field.help,
    }


def _info_lines(shown: _Shown, rivals: list[RegisteredTask]) -> Iterator[str]:
    task, described = shown.task, shown.described
    yield f"Task: {task.name}"
    yield f"Source: {_source(task)}"
    yield f"Module: {task.module}"
    if task.version:
        yield f"Version: {task.version}"
    for rival in rivals:
        yield f"Also registered: {rival.target} by {rival.owner}"
    if described is None:
        yield ""
        yield f"Could not load task details: {shown.problem}"
        return
    yield f"Kind: {described.kind}"
    yield ""
    yield "Description:"
    yield described.module_doc or described.doc or "(none)"
    yield ""
    yield from _param_lines(described)


def _param_lines(described: TaskDescription) -> Iterator[str]:
    fields = [field for field in described.fields if not field.hidden]
    if not fields:
        yield f"{described.class_name} has no parameters."
        return
    yield f"Parameters for {described.class_name}:"
    for field in fields:
        value = "(required)" if field.required else field.default or ""
        flags = "/".join(field.flags)
        yield f"  {flags}: {value}".rstrip()
        if field.help:
            yield f"      {field.help}"


def _source(task: RegisteredTask) -> str:
    return "built-in" if task.builtin else "installed"
