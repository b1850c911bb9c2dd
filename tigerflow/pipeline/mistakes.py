"""Collect the mistakes in a pipeline file, as lines `file:line: place: sentence`.

Only the sentences on types and unknown keys are made here. The others are made where a
mistake is found: in `reading`, `spec`, `tree`, `software`, `amounts`, `sbatch_options`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tigerflow.errors import PipelineError, did_you_mean
from tigerflow.pipeline.document import Document, Place

# Pydantic's types of errors -> our sentences.
_SENTENCES = {
    "missing": "is required",
    "value_error": "{error}",
    "greater_than_equal": "must be at least {ge:g}, found {found}",
    "greater_than": "must be greater than {gt:g}, found {found}",
    "int_type": "expected a number, found {found}",
    "int_parsing": "expected a number, found {found}",
    "int_from_float": "expected a whole number, found {found}",
    "float_type": "expected a number, found {found}",
    "float_parsing": "expected a number, found {found}",
    "bool_type": "expected true or false, found {found}",
    "bool_parsing": "expected true or false, found {found}",
    "string_type": "expected text, found {found}",
    "string_too_short": "must not be empty",
    "literal_error": "expected {expected}, found {found}",
    "list_type": "expected a list, found {found}",
    "tuple_type": "expected a list, found {found}",
    "dict_type": "expected a mapping, found {found}",
    "model_type": "expected a mapping, found {found}",
    "model_attributes_type": "expected a mapping, found {found}",
    "union_tag_invalid": "{tag!r} is not one of {expected_tags}{hint}",
    "union_tag_not_found": "has no {discriminator}",
}


class Mistakes:
    """The mistakes and the warnings of one pipeline file."""

    def __init__(self, document: Document) -> None:
        """Start with mistakes in the YAML itself."""
        self._document = document
        self._found = list(document.mistakes)
        self._warnings: list[tuple[Place, str]] = []

    def add(self, place: Place, sentence: str) -> None:
        """Note a mistake."""
        self._found.append((place, sentence))

    def warn(self, place: Place, sentence: str) -> None:
        """Note something that works, but should be written in another way."""
        self._warnings.append((place, sentence))

    def note(self, place: Place, sentence: str, *, is_sure: bool) -> None:
        """Note a mistake if it is sure to be one, otherwise a warning."""
        (self.add if is_sure else self.warn)(place, sentence)

    def __bool__(self) -> bool:
        """Tell whether a mistake has been noted."""
        return bool(self._found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """`file:line: place: sentence` for each warning, in order of the file."""
        return tuple(self._lines(self._warnings))

    def raise_any(self) -> None:
        """Raise an error if mistakes have been noted.

        Raises:
            PipelineError: with `file:line: place: sentence` for each, in file order.
        """
        if self._found:
            raise PipelineError(self._lines(self._found))

    def _lines(self, found: Sequence[tuple[Place, str]]) -> list[str]:
        lines = [
            # An import error may have several lines; a mistake has one.
            (self._document.line(place), place, " ".join(text.splitlines()))
            for place, text in found
        ]
        return [
            f"{self._document.path}:{line}: {_place_name(place)}{text}"
            for line, place, text in sorted(lines, key=lambda each: each[0])
        ]


def add_found(
    mistakes: Mistakes,
    error: ValidationError,
    locate: Callable[[tuple[str | int, ...]], Place],
    unknown: Callable[[tuple[str | int, ...]], str],
) -> None:
    """Note the mistakes that Pydantic found.

    Args:
        mistakes: where to note them.
        error: Pydantic's error.
        locate: converts Pydantic's location into a place in the file.
        unknown: returns the sentence for an unknown key at a location.
    """
    for found in error.errors():
        location = found["loc"]
        is_unknown = found["type"] == "extra_forbidden"
        sentence = unknown(location) if is_unknown else _sentence(found)
        mistakes.add(locate(location), sentence)


def not_a_key(key: object, model: type[BaseModel] | None) -> str:
    """Return the sentence for an unknown `key`, with a similar key of the model."""
    known = list(model.model_fields) if model else []
    return f"unknown key{did_you_mean(str(key), known)}"


def shown(value: object) -> str:
    """Return a value as it appears in a sentence."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return repr(value)


def _sentence(found: Any) -> str:
    template = _SENTENCES.get(found["type"], "{msg}, found {found}")
    words = {"msg": found["msg"], **found.get("ctx", {})}
    tags = [tag.strip(" '") for tag in words.get("expected_tags", "").split(",")]
    hint = did_you_mean(words.get("tag", ""), tags)
    return template.format(found=shown(found["input"]), hint=hint, **words)


def _place_name(place: Place) -> str:
    """Return `tasks[2].depends_on: ` for ("tasks", 2, "depends_on")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{text.removeprefix('.')}: " if text else ""
