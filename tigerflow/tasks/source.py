"""What the source of a task's file says of it, without running it."""

import ast
import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

#: Methods of a Path that read or write what it names.
_PATH_METHODS = frozenset(
    {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
)

#: Functions that open a database by its path.
_CONNECTING = frozenset({"duckdb.connect", "sqlite3.connect"})

#: How often a file is parsed before it is given up; see `_read`.
_ATTEMPTS = 3


def _read(path: Path) -> ast.Module:
    """Parse a file; what cannot be parsed is empty."""
    for _ in range(_ATTEMPTS):
        # Python before 3.11.8 raises SystemError when garbage that is collected
        # meanwhile prints a traceback, as a task of asyncio does whose error nobody
        # has seen: for that, Python parses too.
        with contextlib.suppress(SystemError):
            return _parse(path)
    return ast.Module([], [])


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def program_class(file: Path) -> str | None:
    """Return the class whose `cli()` the file calls as a program, if it is only one."""
    tree = _read(file)
    statements = [*_outside_main(tree), *_main_block(tree)]
    names = {_cli_class(call) for call in _cli_calls(tree, statements)}
    return names.pop() if len(names) == 1 else None


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
    tree = _read(file)
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
    line = _self_import(file, _read(file))
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
    block = list(_main_block(tree))
    if not any(_cli_calls(tree, [*_outside_main(tree), *block])):
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


def relative_openings(file: Path, directory: Path) -> Iterator[str]:
    """Yield the line and more of each relative path that is opened and is not there.

    A file that changes its directory opens them elsewhere.
    """
    tree = _read(file)
    texts = _module_texts(tree)
    if "chdir" in {getattr(node, "attr", "") for node in ast.walk(tree)}:
        return
    seen = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text = _opened(node, texts)
        if text is None or text in seen or not _is_relative(text):
            continue
        # Not path.exists(): it raises for a name that is too long.
        if not os.path.exists(directory / text):  # noqa: PTH110
            seen.add(text)
            yield (
                f"{file.name}:{node.lineno} opens {text!r}, which is not in "
                f"{str(directory)!r}; relative paths start there, at the pipeline "
                "file's directory"
            )


def _is_relative(text: str) -> bool:
    return (
        text not in {"", "-"} and not text.startswith(("/", "~")) and "\0" not in text
    )


def _main_block(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        if isinstance(statement, ast.If) and _is_main_test(statement.test):
            yield from statement.body


def _outside_main(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        if not (isinstance(statement, ast.If) and _is_main_test(statement.test)):
            yield statement


def _is_main_test(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            words = {_constant(left), _constant(right)}
            return words == {"__name__", "__main__"}
        case _:
            return False


def _constant(node: ast.expr) -> object:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=value):
            return value
        case _:
            return None


def _dotted(node: ast.expr) -> str | None:
    """Return a name as the source has it, such as `io.open`; None for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return f"{module}.{name}"
        case _:
            return None


def _cli_calls(tree: ast.Module, statements: Iterable[ast.stmt]) -> Iterator[ast.Call]:
    """Yield the calls of a `cli()` in statements, and in functions that they call."""
    functions = {
        each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)
    }
    left = deque(statements)
    while left:
        statement = left.popleft()
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            if _cli_class(node) is not None:
                yield node
            elif isinstance(node.func, ast.Name) and node.func.id in functions:
                # Each once: functions may call themselves, and one another.
                left.extend(functions.pop(node.func.id).body)


def _cli_class(call: ast.Call) -> str | None:
    match call.func:
        case ast.Attribute(value=ast.Name(id=name), attr="cli"):
            return name
        case _:
            return None


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
    if _cli_class(call) is not None:
        return True
    arguments = call.args
    if _dotted(call.func) in {"sys.exit", "exit", "SystemExit"} and arguments:
        inner = arguments[0]
        return isinstance(inner, ast.Call) and _call_only_starts(tree, inner)
    name = _constant(call.func)
    bodies: Sequence[Sequence[ast.stmt]] = [
        each.body
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    # Itself is none of these: a function that calls itself does more.
    return len(bodies) == 1 and all(
        _only_starts(ast.Module([], []), each) for each in bodies[0]
    )


def _module_texts(tree: ast.Module) -> dict[str, str]:
    """Return the texts that have names at the top of a module."""
    return {
        target.id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _opened(call: ast.Call, texts: Mapping[str, str]) -> str | None:
    """Return the text of a relative path that a call opens, if it stands there."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        # As for Path("x").read_text().
        inner = function.value
        is_path = _dotted(inner.func) in {"Path", "pathlib.Path"}
        if is_path and function.attr in _PATH_METHODS:
            return _first_text(inner, texts)
        return None
    if _dotted(function) in {"open", "io.open", *_CONNECTING}:
        return _first_text(call, texts)
    return None


def _first_text(call: ast.Call, texts: Mapping[str, str]) -> str | None:
    named = [each.value for each in call.keywords if each.arg in {"file", "database"}]
    match [*call.args, *named]:
        case [ast.Constant(value=str(text)), *_]:
            return text if not text.startswith(":memory:") else None
        case [ast.Name(id=name), *_]:
            return texts.get(name)
        case _:
            return None
