"""Pass on what a task prints, and keep the end of it for the file's `.err`."""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

#: The most characters of a file's prints in its `.err`.
PRINTED_TAIL = 4000


#: The prints of the current call, in each context.
_printed: ContextVar["Printed | None"] = ContextVar("_printed", default=None)


@dataclass
class Printed:
    """The end of what is printed for the files of one call."""

    text: list[str] = field(default_factory=list)
    size: int = 0

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Have a `PrintRecorder` add what is printed in the block's context."""
        token = _printed.set(self)
        try:
            yield
        finally:
            # A coroutine may be closed from outside of its context.
            with contextlib.suppress(ValueError):
                _printed.reset(token)

    def add(self, text: str) -> None:
        """Add a text that was printed."""
        self.text.append(text)
        self.size += len(text)
        # Cut rarely, since a task may print millions of short texts.
        if self.size > 4 * PRINTED_TAIL:
            self.text = [self.tail()]
            self.size = len(self.text[0])

    def tail(self) -> str:
        """Return the last `PRINTED_TAIL` characters."""
        return "".join(self.text)[-PRINTED_TAIL:]


class PrintRecorder:
    """Replaces sys.stdout or sys.stderr: passes text on, and keeps the end of it.

    Concurrent calls are distinguished by the context in which each runs. Methods do not
    raise if nobody can read the text, since that is not the file's fault. A call cannot
    close the stream for others.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Pass text on to `stream`; None stands for a stream that is closed."""
        self._stream = stream

    def write(self, text: object) -> int:
        """Write to the stream and to the record of the file being processed.

        Raises:
            TypeError: `text` is not text.
        """
        if not isinstance(text, str):
            msg = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(msg)
        current = _printed.get()
        if current is not None:
            current.add(text)
        with _nobody_reading():
            self._pass_on(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is not None:
            with _nobody_reading():
                self._stream.flush()

    def close(self) -> None:
        """Flush the stream."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass_on(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            # A task that prints the name of its file must work with every name.
            encoding = self._stream.encoding
            readable = text.encode(encoding, "backslashreplace").decode(encoding)
            self._stream.write(readable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _nobody_reading() -> Iterator[None]:
    """Ignore a closed terminal, a pipe without a reader, and a closed stream."""
    with contextlib.suppress(OSError, ValueError):
        yield
