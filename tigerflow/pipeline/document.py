"""A YAML file as plain values, with the line and the original text of each.

Values follow YAML 1.2's core schema where it matters to users: `12:00:00` is text and
not the number 43200, and `no` is text and not False. The original text of numbers and
booleans is kept, so that `1.10` can be a version.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tigerflow.errors import PipelineError

#: Keys and indices from the top: ("tasks", 2, "params").
Place = tuple[str | int, ...]

#: The most values in a file: a few lines of aliases can expand to billions.
MAX_VALUES = 100_000

_INTEGER = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOLEAN = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


# Prefixes of hexadecimal and octal numbers, infinities and NaN.
_YAML_ONLY = ("0x", "0o", ".inf", "+.inf", "-.inf", ".nan")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the resolvers of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 -- PyYAML's own way


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", [*"~nN", ""]),
    (_BOOLEAN, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INTEGER, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        (
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        "-+.0123456789",
    ),
    (_MERGE, "<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """A YAML file's content, and the place of each part of it."""

    path: Path
    data: Any = None
    #: Line (from 1) of each mapping key or list item.
    lines: dict[Place, int] = field(default_factory=dict)
    #: The text of each scalar, as written.
    texts: dict[Place, str | None] = field(default_factory=dict)
    #: Mistakes in the YAML itself, such as a key given twice.
    mistakes: list[tuple[Place, str]] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest part that contains it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def text(self, place: Place) -> str | list[str] | None:
        """Return the text of a scalar, or the texts of a list of scalars."""
        if place in self.texts:
            return self.texts[place]
        items: list[str] = []
        while (item := (*place, len(items))) in self.texts:
            items.append(self.texts[item] or "")
        return items


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        PipelineError: it cannot be read, or is not YAML; with line and reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise PipelineError([f"{path}: not a text file ({error.reason})"]) from error
    try:
        return _Reader(path, text).read()
    except yaml.MarkedYAMLError as error:
        raise PipelineError([_located(path, error)]) from error
    except yaml.YAMLError as error:
        raise PipelineError([f"{path}: {str(error).splitlines()[0]}"]) from error
    except RecursionError as error:
        raise PipelineError([f"{path}: nested too deeply"]) from error


def _located(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or error.context or "not YAML"
    hint = "; indent with spaces" if r"'\t'" in problem else ""
    return f"{path}:{line}: {problem}{hint}"


class _Reader:
    """Converts the nodes of a text into values, and notes the place of each."""

    def __init__(self, path: Path, text: str) -> None:
        self._loader = _Loader(text)
        self._document = Document(path)
        self._values_left = MAX_VALUES
        #: The keys that a mapping has itself, by the identity of its node.
        self._own_keys: dict[int, list[object]] = {}

    def read(self) -> Document:
        try:
            node = self._loader.get_single_node()
            if node is not None:
                self._document.data = self._value(node, ())
        finally:
            self._loader.dispose()
        return self._document

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            problem = f"more than {MAX_VALUES} values, aliases included"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        self._document.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(item, (*place, index))
                for index, item in enumerate(node.value)
            ]
        value = _scalar(node)
        self._document.texts[place] = _text(node.value, value)
        return value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        if id(node) not in self._own_keys:
            # Only once: an alias may lead here again, to a node that is flattened.
            own = [key.value for key, _ in node.value if key.tag != _MERGE]
            self._own_keys[id(node)] = own
            self._loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                problem = "a key must be text, not a list or a mapping"
                mark = key_node.start_mark
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            here = (*place, key)
            if self._own_keys[id(node)].count(key) > 1 and key in result:
                self._document.mistakes.append((here, "is given twice"))
            self._document.lines[here] = key_node.start_mark.line + 1
            result[key] = self._value(value_node, here)
        return result


def _text(written: str, value: Any) -> str | None:
    """Return the original text, or Python's form of a number that only YAML has."""
    if value is None:
        return None
    if isinstance(value, int | float) and written.lower().startswith(_YAML_ONLY):
        return str(value)
    return written


def _scalar(node: yaml.Node) -> Any:
    if node.tag == _NULL:
        return None
    if node.tag == _BOOLEAN:
        return node.value.lower() == "true"
    if node.tag in {_INTEGER, _FLOAT}:
        return _number(node)
    return node.value


def _number(node: yaml.Node) -> int | float:
    text: str = node.value
    try:
        if node.tag == _INTEGER:
            return int(text, 0 if text.startswith(("0x", "0o")) else 10)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        # `!!int x`, or a number of thousands of digits.
        problem = f"{text[:20]!r} is not a valid number"
        mark = node.start_mark
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark) from error
