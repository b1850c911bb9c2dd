"""Relative paths that a task's source opens, and that do not exist."""

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tigerflow.tasks.source import dotted_name, read_source

#: Methods of a Path that read or write what it names.
_PATH_METHODS = frozenset(
    {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
)


#: Functions that open a database by its path.
_CONNECTING = frozenset({"duckdb.connect", "sqlite3.connect"})


def relative_openings(file: Path, directory: Path) -> Iterator[str]:
    """Yield a sentence for each relative path that the file opens and that is missing.

    There are none for a file that changes its directory: its paths start elsewhere.
    """
    tree = read_source(file)
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
                f"{file.name}:{node.lineno} opens {text!r}, which does not exist in "
                f"{str(directory)!r}; relative paths start in the pipeline file's "
                "directory"
            )


def _is_relative(text: str) -> bool:
    return (
        text not in {"", "-"} and not text.startswith(("/", "~")) and "\0" not in text
    )


def _module_texts(tree: ast.Module) -> dict[str, str]:
    """Return the strings that are assigned to names at the top of a module."""
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
    """Return the path that a call opens, if the source has it as a string."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        # As for Path("x").read_text().
        inner = function.value
        is_path = dotted_name(inner.func) in {"Path", "pathlib.Path"}
        if is_path and function.attr in _PATH_METHODS:
            return _first_text(inner, texts)
        return None
    if dotted_name(function) in {"open", "io.open", *_CONNECTING}:
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
