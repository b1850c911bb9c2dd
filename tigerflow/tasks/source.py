"""What the source of a task's file contains, without running it."""

import ast
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

#: How many times a file is parsed at most; see `read_source`.
_ATTEMPTS = 3


def read_source(path: Path) -> ast.Module:
    """Parse a file; the result is empty if it cannot be parsed."""
    for _ in range(_ATTEMPTS):
        # Python before 3.11.8 raises SystemError when an object that is collected
        # meanwhile prints a traceback, for which Python parses, too. An asyncio task
        # whose error was never retrieved does that.
        with contextlib.suppress(SystemError):
            return _parse(path)
    return ast.Module([], [])


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def program_class(file: Path) -> str | None:
    """Return the class whose `cli()` the file calls as a program, if there is one."""
    tree = read_source(file)
    statements = [*outside_main(tree), *main_block(tree)]
    names = {cli_class(call) for call in cli_calls(tree, statements)}
    return names.pop() if len(names) == 1 else None


def main_block(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements under `if __name__ == "__main__"`."""
    for statement in tree.body:
        if isinstance(statement, ast.If) and _is_main_test(statement.test):
            yield from statement.body


def outside_main(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the other statements at the top of a module."""
    for statement in tree.body:
        if not (isinstance(statement, ast.If) and _is_main_test(statement.test)):
            yield statement


def _is_main_test(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            words = {constant(left), constant(right)}
            return words == {"__name__", "__main__"}
        case _:
            return False


def constant(node: ast.expr) -> object:
    """Return a name, or the value of a literal; None for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=value):
            return value
        case _:
            return None


def dotted_name(node: ast.expr) -> str | None:
    """Return a dotted name such as `io.open`; None for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return f"{module}.{name}"
        case _:
            return None


def cli_calls(tree: ast.Module, statements: Iterable[ast.stmt]) -> Iterator[ast.Call]:
    """Yield calls of `cli()` in statements, and in functions that these call."""
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
            if cli_class(node) is not None:
                yield node
            elif isinstance(node.func, ast.Name) and node.func.id in functions:
                # Each once: functions may call themselves, and one another.
                left.extend(functions.pop(node.func.id).body)


def cli_class(call: ast.Call) -> str | None:
    """Return `X` for a call of `X.cli()`; None for any other call."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=name), attr="cli"):
            return name
        case _:
            return None
