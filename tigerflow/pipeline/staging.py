"""The staging steps of a pipeline: which waiting files are staged, in what order."""

import contextlib
import importlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tigerflow.errors import StagingError
from tigerflow.naming import check_extension

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class StagingContext(BaseModel):
    """What a step can know about the run; read-only. The numbers count files."""

    model_config = ConfigDict(frozen=True)

    #: Files that have arrived and are not staged yet: the candidates of the first step.
    waiting: int
    #: Files that are staged and not finished.
    staged: int
    completed: int
    failed: int
    input_dir: Path
    output_dir: Path


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def apply(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Return the candidates to stage, in the order in which to stage them."""
        return [path for path in candidates if self.accepts(path, context)]

    def accepts(self, path: Path, context: StagingContext) -> bool:
        """Tell whether to stage a file; never one that no longer exists."""
        del context
        try:
            return self.accepts_status(path.stat())
        except OSError:
            return False

    def accepts_status(self, status: os.stat_result) -> bool:
        """Tell whether to stage a file of this size and age."""
        del status
        return True


class MinSize(_Step):
    """Files of at least this many bytes."""

    kind: Literal["min_size"]
    bytes: int = Field(gt=0)

    def accepts_status(self, status: os.stat_result) -> bool:
        """Compare the size."""
        return status.st_size >= self.bytes


class MaxSize(_Step):
    """Files of at most this many bytes."""

    kind: Literal["max_size"]
    bytes: int = Field(gt=0)

    def accepts_status(self, status: os.stat_result) -> bool:
        """Compare the size."""
        return status.st_size <= self.bytes


class MinAge(_Step):
    """Files that have not changed for this many seconds."""

    kind: Literal["min_age"]
    seconds: float = Field(gt=0)

    def accepts_status(self, status: os.stat_result) -> bool:
        """Compare the time of the last change."""
        return time.time() - status.st_mtime >= self.seconds


class FilenameMatch(_Step):
    """Files whose names match the regular expression anywhere."""

    kind: Literal["filename_match"]
    pattern: str

    def accepts(self, path: Path, context: StagingContext) -> bool:
        """Search the name."""
        del context
        return re.search(self.pattern, path.name) is not None

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
    """Files that have a companion: same directory, same stem, this extension."""

    kind: Literal["companion_file"]
    ext: str

    def accepts(self, path: Path, context: StagingContext) -> bool:
        """Look for the companion."""
        del context
        stem = path.name.removesuffix("".join(path.suffixes)) or path.name
        return any(
            path.with_name(name + self.ext).is_file() for name in (path.stem, stem)
        )

    @field_validator("ext")
    @classmethod
    def _is_extension(cls, ext: str) -> str:
        return check_extension(ext)


class MaxStaged(_Step):
    """Files up to this many staged ones."""

    kind: Literal["max_staged"]
    count: int = Field(gt=0)

    def apply(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Return as many as bring the staged files up to the count."""
        return candidates[: max(0, self.count - context.staged)]


class MaxBatch(_Step):
    """This many files at a time, at most."""

    kind: Literal["max_batch"]
    count: int = Field(gt=0)

    def apply(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Return the first candidates."""
        del context
        return candidates[: self.count]


class SortBy(_Step):
    """Files in another order."""

    kind: Literal["sort_by"]
    key: Literal["name", "size", "mtime"] = "name"
    reverse: bool = False

    def apply(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Sort the candidates that still exist."""
        present = super().apply(candidates, context)
        return sorted(present, key=self._key, reverse=self.reverse)

    def _key(self, path: Path) -> tuple[float, str]:
        if self.key == "name":
            return 0, path.name
        with contextlib.suppress(OSError):
            status = path.stat()
            number = status.st_size if self.key == "size" else status.st_mtime
            return number, path.name
        return 0, path.name


class CallableStep(_Step):
    """Files that a user's function chooses."""

    kind: Literal["callable"]
    function: str

    def apply(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Call the function.

        Raises:
            StagingError: it raised, or returned something else than candidates.
        """
        try:
            chosen = self.load()(list(candidates), context)
            if isinstance(chosen, Iterator):
                # A generator runs, and raises, here.
                chosen = list(chosen)
        except (Exception, SystemExit) as error:
            reason = f"raised {type(error).__name__}: {error}"
            raise StagingError(self.function, reason) from error
        if not isinstance(chosen, list | tuple):
            reason = f"returned {chosen!r}, not a list of paths"
            raise StagingError(self.function, reason)
        offered = set(candidates)
        for each in chosen:
            if not isinstance(each, Path) or each not in offered:
                reason = f"returned {each!r}, which is not one of its candidates"
                raise StagingError(self.function, reason)
        if len(set(chosen)) < len(chosen):
            raise StagingError(self.function, "returned a file twice")
        return list(chosen)

    def load(self) -> Callable[[list[Path], StagingContext], Any]:
        """Return the function.

        Raises:
            Exception: what its module raises at import, or AttributeError.
        """
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        if not callable(function):
            msg = f"{self.function} is not a function"
            raise TypeError(msg)
        return cast("Callable[[list[Path], StagingContext], Any]", function)

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

#: The schema of each kind of step.
STEPS: Mapping[str, type[BaseModel]] = {
    get_args(step.model_fields["kind"].annotation)[0]: step
    for step in get_args(_AnyStep)
}


class Staging(BaseModel):
    """The staging steps, in the order in which they apply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[
        tuple[Step, ...],
        BeforeValidator(lambda value: () if value is None else value),
    ] = ()

    def load(self, directory: Path) -> None:
        """Import the functions of callable steps; `directory` is searched as well.

        Raises:
            StagingError: a function cannot be imported; the error names it.
        """
        if str(directory) not in sys.path:
            sys.path.append(str(directory))
        for step in self.steps:
            if not isinstance(step, CallableStep):
                continue
            try:
                step.load()
            except (Exception, SystemExit) as error:
                reason = f"cannot be imported: {type(error).__name__}: {error}"
                raise StagingError(step.function, reason) from error

    def select(self, candidates: list[Path], context: StagingContext) -> list[Path]:
        """Return the candidates to stage now, in order.

        Raises:
            StagingError: a callable step misbehaved; the error names it.
        """
        for step in self.steps:
            if not candidates:
                break
            candidates = step.apply(candidates, context)
        return candidates
