"""`FileJob`: one file to process, and where its result or its error belongs."""

from dataclasses import dataclass
from pathlib import Path

from tigerflow.naming import ERROR_EXT


@dataclass(frozen=True)
class FileJob:
    """One file to process, and where its result or its error belongs."""

    input: Path
    output: Path
    error: Path

    @property
    def extension(self) -> str:
        """The whole extension of the output: `.tar.gz`, not `.gz`."""
        stem = self.error.name.removesuffix(ERROR_EXT)
        return self.output.name.removeprefix(stem)
