"""Where relative paths among a task's params start."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tigerflow.tasks.fields import ParamText

#: Placeholder for the output directory in a value.
OUTPUT_DIR = "{output_dir}"


@dataclass(frozen=True)
class Places:
    """Where paths in params start."""

    #: Start of relative paths.
    directory: Path
    #: Value of `{output_dir}`; None while a pipeline is checked without one.
    output_dir: Path | None = None

    def locate(self, value: Any) -> Any:
        """Return a value, or a list of values, with every path made absolute.

        In text, only `{output_dir}` is replaced.
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
        """Return the text of a path, made absolute; `-` stays, for standard input."""
        text = self.fill_in(text)
        if text == "-":
            return text
        with contextlib.suppress(RuntimeError):
            # If there is no such user, it is a name like any other.
            text = str(Path(text).expanduser()) if text.startswith("~") else text
        return os.path.join(self.directory, text)  # noqa: PTH118 -- keeps a "/" at the end

    def leave_open(self, value: ParamText) -> bool:
        """Tell whether a value cannot be checked yet, because it has `{output_dir}`."""
        texts = [value] if isinstance(value, str) else value or ()
        return self.output_dir is None and any(OUTPUT_DIR in text for text in texts)

    def fill_in(self, text: str) -> str:
        """Return a text with `{output_dir}` replaced, if its value is known."""
        if self.output_dir is None:
            return text
        return text.replace(OUTPUT_DIR, str(self.output_dir))
