"""A YAML file as plain values that know the line and the text they were written with.

The values follow YAML 1.2's core schema as far as people notice: `12:00:00` is a text
and not the number 43200, `no` is a text and not False. Numbers and booleans keep their
text beside their value, so that `1.10` can be the version that it was meant to be.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tigerflow.errors import PipelineError

#: Keys and indices from the top: ("tasks", 2, "params").
Place = tuple[str | int, ...]

_INTEGER = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOLEAN = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the resolvers of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 -- PyYAML's own way


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", [*"~nN", ""]),
    (_BOOLEAN, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INTEGER, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """A YAML file's content and where each part of it stands."""

    path: Path
    data: Any = None
    #: Line (from 1) of each mapping key or list item.
    lines: dict[Place, int] = field(default_factory=dict)
    #: The text of each scalar, as written.
    texts: dict[Place, str | None] = field(default_factory=dict)
    #: Mistakes of the YAML itself, such as a key given twice.
    mistakes: list[tuple[Place, str]] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest part around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def text(self, place: Place) -> str | list[str] | None:
        """Return the text of a scalar, or the texts of a list of scalars."""
        if place in self.texts:
            return self.texts[place]
        items = []
        while (item := (*place, len(items))) in self.texts:
            items.append(self.texts[item] or "")
        return items


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        PipelineError: it is not there, not text, or not YAML; with line and reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise PipelineError([f"{path}: not a text file ({error.reason})"]) from error
    document = Document(path)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.data = _read(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or "not YAML"
        raise PipelineError([f"{path}:{line}: {problem}"]) from error
    except yaml.YAMLError as error:
        raise PipelineError([f"{path}: {str(error).splitlines()[0]}"]) from error
    finally:
        loader.dispose()
    return document


def _read(loader: _Loader, node: yaml.Node, place: Place, document: Document) -> Any:
    document.lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(loader, node, place, document)
    if isinstance(node, yaml.SequenceNode):
        return [
            _read(loader, item, (*place, index), document)
            for index, item in enumerate(node.value)
        ]
    value = _scalar(loader, node)
    document.texts[place] = None if value is None else node.value
    return value


def _read_mapping(
    loader: _Loader,
    node: yaml.MappingNode,
    place: Place,
    document: Document,
) -> dict[str, Any]:
    own_keys = [
        key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"
    ]
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        here = (*place, key)
        if own_keys.count(key) > 1 and key in result:
            document.mistakes.append((here, "is given twice"))
        document.lines[here] = key_node.start_mark.line + 1
        result[key] = _read(loader, value_node, here, document)
    return result


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    text = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOLEAN:
        return text.lower() == "true"
    if node.tag == _INTEGER:
        return int(text, 0 if text.startswith(("0x", "0o")) else 10)
    if node.tag == _FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return loader.construct_scalar(node)
