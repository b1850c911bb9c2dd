"""The two directories of a task by itself: where files come from, and where they go."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from tigerflow.errors import DirectoryClashError, DirectoryMissingError
from tigerflow.naming import check_extension, error_name, output_name, stem_of
from tigerflow.tasks.file_job import FileJob


@dataclass(frozen=True)
class Directories:
    """Where files come from and go to, with their extensions."""

    input_dir: Path
    input_ext: str
    output_dir: Path
    output_ext: str

    def check(self) -> None:
        """Refuse directories and extensions that cannot work together.

        Raises:
            NameRuleError: an extension cannot name files.
            DirectoryMissingError: a directory is not there.
            DirectoryClashError: outputs would be inputs.
        """
        check_extension(self.input_ext)
        check_extension(self.output_ext)
        for option, path in (
            ("--input-dir", self.input_dir),
            ("--output-dir", self.output_dir),
        ):
            # Not path.is_dir(): it raises for a name that is too long.
            if not os.path.isdir(path):  # noqa: PTH112
                raise DirectoryMissingError(option, path)
        same = self.input_dir.samefile(self.output_dir)
        if same and self.output_ext.endswith(self.input_ext):
            msg = (
                f"Input and output directory are the same, and outputs "
                f"({self.output_ext}) would be taken for inputs ({self.input_ext}); "
                "choose another --output-dir or --output-ext"
            )
            raise DirectoryClashError(msg)

    def absolute(self) -> "Directories":
        """Return the same, whatever directory a task changes to."""
        return replace(
            self,
            input_dir=self.input_dir.absolute(),
            output_dir=self.output_dir.absolute(),
        )

    def job(self, name: str) -> FileJob:
        """Return the job of one input file."""
        stem = stem_of(name, self.input_ext)
        return FileJob(
            self.input_dir / name,
            self.output_dir / output_name(stem, self.output_ext),
            self.output_dir / error_name(stem),
        )
