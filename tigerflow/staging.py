"""The staging steps of a pipeline: which waiting files go next, and how many."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tigerflow.naming import check_extension

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MinSize(_Step):
    """Files of at least this many bytes."""

    kind: Literal["min_size"]
    bytes: int = Field(gt=0)


class MaxSize(_Step):
    """Files of at most this many bytes."""

    kind: Literal["max_size"]
    bytes: int = Field(gt=0)


class MinAge(_Step):
    """Files that have not changed for this many seconds."""

    kind: Literal["min_age"]
    seconds: float = Field(gt=0)


class FilenameMatch(_Step):
    """Files in whose names the regular expression is found."""

    kind: Literal["filename_match"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _is_regular_expression(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            msg = f"{pattern!r} is not a regular expression: {error}"
            raise ValueError(msg) from error
        return pattern


class CompanionFile(_Step):
    """Files beside which a file of the same stem and this extension stands."""

    kind: Literal["companion_file"]
    ext: str

    @field_validator("ext")
    @classmethod
    def _is_extension(cls, ext: str) -> str:
        return check_extension(ext)


class MaxStaged(_Step):
    """No more than this many files in flight."""

    kind: Literal["max_staged"]
    count: int = Field(gt=0)


class MaxBatch(_Step):
    """No more than this many files at a time."""

    kind: Literal["max_batch"]
    count: int = Field(gt=0)


class SortBy(_Step):
    """The order in which files go."""

    kind: Literal["sort_by"]
    key: Literal["name", "size", "mtime"] = "name"
    reverse: bool = False


class CallableStep(_Step):
    """A function of the user's that chooses."""

    kind: Literal["callable"]
    function: str

    @field_validator("function")
    @classmethod
    def _has_a_module(cls, function: str) -> str:
        if not _FUNCTION.fullmatch(function):
            msg = f"{function!r} is not of the form 'module:function'"
            raise ValueError(msg)
        return function


_AnyStep = (
    MinSize
    | MaxSize
    | MinAge
    | FilenameMatch
    | CompanionFile
    | MaxStaged
    | MaxBatch
    | SortBy
    | CallableStep
)
Step = Annotated[_AnyStep, Field(discriminator="kind")]

#: The shape of each kind of step.
STEPS: Mapping[str, type[BaseModel]] = {
    get_args(step.model_fields["kind"].annotation)[0]: step
    for step in get_args(_AnyStep)
}


class Staging(BaseModel):
    """The steps, in the order in which they apply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[
        tuple[Step, ...],
        BeforeValidator(lambda value: () if value is None else value),
    ] = ()
