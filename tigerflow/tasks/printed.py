"""What a task prints for a file: passed on, and its tail kept for the `.err`."""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

#: How much of what a file's run printed stands in its `.err`, in characters.
PRINTED_TAIL = 4000


#: Of the file in hand, in each context.
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
        # Cut rarely: a task may print millions of short pieces.
        if self.size > 4 * PRINTED_TAIL:
            self.text = [self.tail()]
            self.size = len(self.text[0])

    def tail(self) -> str:
        """Return the last `PRINTED_TAIL` characters."""
        return "".join(self.text)[-PRINTED_TAIL:]


class PrintRecorder:
    """Stands in for sys.stdout or sys.stderr: passes on, and remembers a file's tail.

    Files in flight at once are told apart by the context each runs in. A print that
    nobody can read is no failure of the file, so none of these methods raises for it.
    One file cannot close the stream for the others.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Pass everything on to `stream`; Python has None for a closed one."""
        self._stream = stream

    def write(self, text: object) -> int:
        """Write to the stream and to the record of the file being processed.

        Raises:
            TypeError: as any stream of text does for what is not text.
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
            # A task that prints its file's name must work with every name.
            encoding = self._stream.encoding
            readable = text.encode(encoding, "backslashreplace").decode(encoding)
            self._stream.write(readable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _nobody_reading() -> Iterator[None]:
    """Pass over a closed terminal, a pipe whose reader has gone, a closed stream."""
    with contextlib.suppress(OSError, ValueError):
        yield
