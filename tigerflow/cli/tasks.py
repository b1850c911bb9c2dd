"""`tigerflow tasks list` and `tigerflow tasks info`."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tigerflow.cli._errors import report_errors
from tigerflow.errors import TigerflowError, UnknownTaskError
from tigerflow.tasks.describe import TaskDescription, describe_task
from tigerflow.tasks.loader import Reference
from tigerflow.tasks.params import FieldDescription
from tigerflow.tasks.registry import (
    RegisteredTask,
    builtin_tasks,
    find_registered,
    installed_tasks,
    registered_names,
)

app = typer.Typer(help="Show the tasks that have a name.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("list")
def list_command(
    *,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Show where each task is"),
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the built-in tasks and those of installed packages."""
    groups = {"builtin": builtin_tasks(), "installed": installed_tasks()}
    if as_json:
        rows = {name: [_row(task) for task in group] for name, group in groups.items()}
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_group("Built-in tasks:", groups["builtin"], verbose=verbose)
    _print_group("Installed tasks:", groups["installed"], verbose=verbose)


@app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name of a task")],
    *,
    as_json: _Json = False,
) -> None:
    """Show what a task does and which parameters it has."""
    with report_errors():
        task = find_registered(name)
        if task is None:
            raise UnknownTaskError(name, registered_names())
        described, problem = _load(task)
        if as_json:
            typer.echo(json.dumps(_info(task, described, problem), indent=2))
            return
        typer.echo(_info_text(task, described, problem))


def _print_group(title: str, tasks: list[RegisteredTask], *, verbose: bool) -> None:
    if not tasks:
        return
    typer.echo(title)
    for task in tasks:
        where = f": {task.target}" if verbose else ""
        version = f" ({task.version})" if task.version else ""
        typer.echo(f"  {task.name}{where}{version} - {_summary(task)}")


def _row(task: RegisteredTask) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": task.name,
        "module": task.module,
        "version": task.version,
        "description": _summary(task),
    }
    problem = _load(task)[1]
    if problem is not None:
        row["error"] = problem
    return row


def _summary(task: RegisteredTask) -> str:
    """Return one line on a task; a broken one's is the reason."""
    described, problem = _load(task)
    if described is None:
        return f"cannot be loaded: {problem}"
    text = described.module_doc or described.doc
    return text.partition("\n")[0] or "(no description)"


_loaded: dict[str, tuple[TaskDescription | None, str | None]] = {}


def _load(task: RegisteredTask) -> tuple[TaskDescription | None, str | None]:
    """Return a task's description, or why there is none; load each once."""
    if task.name not in _loaded:
        _loaded[task.name] = _describe(task)
    return _loaded[task.name]


def _describe(task: RegisteredTask) -> tuple[TaskDescription | None, str | None]:
    reference = Reference.parse(task.target, Path.cwd())
    try:
        # What a module prints must not end in the list.
        with contextlib.redirect_stdout(sys.stderr):
            return describe_task(reference, Path.cwd()), None
    except TigerflowError as error:
        return None, str(error)


def _info(
    task: RegisteredTask,
    described: TaskDescription | None,
    problem: str | None,
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": task.name,
        "source": _source(task),
        "module": task.module,
        "version": task.version,
    }
    if described is None:
        return {**info, "error": problem}
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


def _info_text(
    task: RegisteredTask,
    described: TaskDescription | None,
    problem: str | None,
) -> str:
    lines = [
        f"Task: {task.name}",
        f"Source: {_source(task)}",
        f"Module: {task.module}",
    ]
    lines += [f"Version: {task.version}"] if task.version else []
    if described is None:
        return "\n".join([*lines, "", f"Could not load task details: {problem}"])
    lines += [f"Kind: {described.kind}", "", "Description:"]
    lines += [described.module_doc or described.doc or "(none)", ""]
    lines += list(_param_lines(described))
    return "\n".join(lines)


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
