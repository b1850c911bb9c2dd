"""Remarks on code that a task's author may want to change: hidden names, lost code."""

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from tigerflow.tasks.source import (
    cli_calls,
    cli_class,
    constant,
    dotted_name,
    main_block,
    outside_main,
    program_class,
    read_source,
)


def _imported(tree: ast.Module) -> dict[str, int]:
    """Return the top-level modules that a file imports, each with its first line."""
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        for name in modules:
            top = name.partition(".")[0]
            lines[top] = min(node.lineno, lines.get(top, node.lineno))
    return lines


def remarks(file: Path) -> Iterator[str]:
    """Yield sentences about code that the author may want to change."""
    tree = read_source(file)
    if lost := _lost_in_workers(tree):
        yield f"{file.name}: {lost}"
    for name, line in sorted(_imported(tree).items()):
        found = file.parent / f"{name}.py"
        if found == file:
            is_suspect = _self_import(file, tree) is not None
        else:
            # It may be a helper, or another task on purpose.
            is_task = program_class(found) is not None
            is_suspect = is_task and _is_elsewhere(name, file.parent)
        if is_suspect:
            yield (
                f"{file.name} imports {name!r} in line {line}, which is the task in "
                f"{found.name}; rename that file if you mean a package"
            )


def hidden_module(file: Path) -> str | None:
    """Return a sentence if a file imports a module that it hides by its own name."""
    line = _self_import(file, read_source(file))
    if line is None:
        return None
    if not _is_elsewhere(file.stem, file.parent):
        # In this environment, no other module has the name.
        return None
    return (
        f"{file.name} hides the module {file.stem!r} that it imports in line {line}; "
        "rename the file"
    )


def _is_elsewhere(name: str, directory: Path) -> bool:
    """Tell whether a module can be found outside of a directory."""
    elsewhere = [each for each in sys.path if Path(each).resolve() != directory]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _self_import(file: Path, tree: ast.Module) -> int | None:
    """Return the line in which a file imports itself by its name, if there is one."""
    loaded = getattr(sys.modules.get(file.stem), "__file__", str(file))
    is_found = any(Path(each).resolve() == file.parent for each in sys.path)
    is_itself = is_found and loaded == str(file)
    return _imported(tree).get(file.stem) if is_itself else None


def _lost_in_workers(tree: ast.Module) -> str | None:
    """Return a sentence if a `__main__` block does more than call `cli()`.

    Blocks that do not call `cli()` have other uses.
    """
    block = list(main_block(tree))
    if not any(cli_calls(tree, [*outside_main(tree), *block])):
        return None
    lost = [each for each in block if not _only_starts(tree, each)]
    if not lost:
        return None
    first, last = lost[0].lineno, lost[-1].end_lineno or lost[-1].lineno
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    return (
        f"workers do not run {lines}, under \"if __name__ == '__main__':\"; move code "
        "that the task needs above the block, or into setup"
    )


def _only_starts(tree: ast.Module, statement: ast.stmt) -> bool:
    """Tell whether a statement does nothing but call `cli()`."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Import():
            return True
        case ast.ImportFrom():
            return True
        case (
            ast.Expr(value=ast.Call() as call)
            | ast.Return(value=ast.Call() as call)
            | ast.Raise(exc=ast.Call() as call)
        ):
            return _call_only_starts(tree, call)
        case _:
            return False


def _call_only_starts(tree: ast.Module, call: ast.Call) -> bool:
    if cli_class(call) is not None:
        return True
    arguments = call.args
    if dotted_name(call.func) in {"sys.exit", "exit", "SystemExit"} and arguments:
        inner = arguments[0]
        return isinstance(inner, ast.Call) and _call_only_starts(tree, inner)
    name = constant(call.func)
    bodies: Sequence[Sequence[ast.stmt]] = [
        each.body
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    # A function that calls itself does more than start.
    return len(bodies) == 1 and all(
        _only_starts(ast.Module([], []), each) for each in bodies[0]
    )
