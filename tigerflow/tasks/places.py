"""Where relative paths among a task's params start."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tigerflow.tasks.fields import ParamText

#: In a value, it stands for the output directory.
OUTPUT_DIR = "{output_dir}"


@dataclass(frozen=True)
class Places:
    """Where the paths among params start."""

    #: That of relative ones.
    directory: Path
    #: What `{output_dir}` stands for; None when a pipeline is checked for any.
    output_dir: Path | None = None

    def locate(self, value: Any) -> Any:
        """Return a value with its paths made absolute; of a list, each item.

        A text keeps what it is, but for `{output_dir}`.
        """
        match value:
            case list():
                return [self.locate(each) for each in value]
            case tuple():
                return tuple(self.locate(each) for each in value)
            case Path():
                return type(value)(self.locate_text(str(value)))
            case str() if type(value) is str:
                return self.fill_in(value)
            case _:
                return value

    def locate_text(self, text: str) -> str:
        """Return the text of a path made absolute; `-` is for standard input."""
        text = self.fill_in(text)
        if text == "-":
            return text
        with contextlib.suppress(RuntimeError):
            # There may be no such user; then it is a name like any other.
            text = str(Path(text).expanduser()) if text.startswith("~") else text
        return os.path.join(self.directory, text)  # noqa: PTH118 -- keeps a "/" at the end

    def leave_open(self, value: ParamText) -> bool:
        """Tell whether nothing can be said of a value yet: it has `{output_dir}`."""
        texts = [value] if isinstance(value, str) else value or ()
        return self.output_dir is None and any(OUTPUT_DIR in text for text in texts)

    def fill_in(self, text: str) -> str:
        """Return a text with the output directory in its place."""
        if self.output_dir is None:
            return text
        return text.replace(OUTPUT_DIR, str(self.output_dir))
