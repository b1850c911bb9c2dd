"""What the author of a task's file may want to change: names it hides, lost code."""

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
    """Return the modules at the top that a file imports, each with its first line."""
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
    """Yield what the author of a task's file may want otherwise."""
    tree = read_source(file)
    if lost := _lost_in_workers(tree):
        yield f"{file.name}: {lost}"
    for name, line in sorted(_imported(tree).items()):
        found = file.parent / f"{name}.py"
        if found == file:
            is_suspect = _self_import(file, tree) is not None
        else:
            # A helper may be meant, and a task that no package has the name of.
            is_task = program_class(found) is not None
            is_suspect = is_task and _is_elsewhere(name, file.parent)
        if is_suspect:
            yield (
                f"{file.name} imports {name!r} in line {line}, which is the task in "
                f"{found.name}; rename that file if a package is meant"
            )


def hidden_module(file: Path) -> str | None:
    """Return what to say of a file that imports another of its name, which it hides."""
    line = _self_import(file, read_source(file))
    if line is None:
        return None
    if not _is_elsewhere(file.stem, file.parent):
        # Then nothing is hidden, but in an environment that is not this one.
        return None
    return (
        f"{file.name} hides the module {file.stem!r} that it imports in line {line}; "
        "rename the file"
    )


def _is_elsewhere(name: str, directory: Path) -> bool:
    """Tell whether a module would be found without a directory."""
    elsewhere = [each for each in sys.path if Path(each).resolve() != directory]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _self_import(file: Path, tree: ast.Module) -> int | None:
    """Return the line in which a file imports a name that leads to itself."""
    loaded = getattr(sys.modules.get(file.stem), "__file__", str(file))
    is_found = any(Path(each).resolve() == file.parent for each in sys.path)
    is_itself = is_found and loaded == str(file)
    return _imported(tree).get(file.stem) if is_itself else None


def _lost_in_workers(tree: ast.Module) -> str | None:
    """Return what to say of a `__main__` block that does more than to call `cli()`.

    Only of a file that is a task's program: such blocks have other uses, too.
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
        f"workers do not run {lines}, under \"if __name__ == '__main__':\"; move what "
        "the task needs of that above the block, or into setup"
    )


def _only_starts(tree: ast.Module, statement: ast.stmt) -> bool:
    """Tell whether a statement does nothing but to call `cli()`."""
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
    # Itself is none of these: a function that calls itself does more.
    return len(bodies) == 1 and all(
        _only_starts(ast.Module([], []), each) for each in bodies[0]
    )
