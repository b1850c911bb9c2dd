"""Bars and names on a screen, and the characters that a console can show."""

from dataclasses import dataclass, replace

from rich.console import Console, OverflowMethod
from rich.text import Text

GREEN, RED, YELLOW, CYAN = "green", "red", "yellow", "cyan"


@dataclass(frozen=True)
class Signs:
    """The characters of one kind of console."""

    on: str
    off: str
    full: str
    failed: str
    empty: str
    #: From lowest to highest.
    blocks: str
    #: The end of a name that is cut.
    cut: str

    def bar(self, width: int, done: int, failed: int, total: int) -> Text:
        """Draw a bar, which is full only if all files are settled."""
        filled = width * (done + failed) // total if total else 0
        # A single failed file is visible among any number of files.
        red = min(filled, -(-width * failed // total)) if total else 0
        return Text.assemble(
            (self.full * (filled - red), GREEN),
            (self.failed * red, RED),
            (self.empty * (width - filled), "dim"),
        )

    def padded(self, name: str, width: int) -> str:
        """Return a name, cut or padded to this width."""
        if len(name) > width:
            name = name[: width - 1] + self.cut
        return name.ljust(width)

    @property
    def overflow(self) -> OverflowMethod:
        """How a line is cut at the edge of a terminal."""
        return "crop" if self is _ASCII else "ellipsis"


_UNICODE = Signs("●", "○", "━", "━", "─", "▁▂▃▄▅▆▇█", "…")
#: Distinguishes failed from done without colours.
_PLAIN = replace(_UNICODE, failed="x")
_ASCII = Signs("*", "-", "#", "x", ".", "_.-=+*%#", "~")


def signs_for(console: Console) -> Signs:
    """Return the characters for a console."""
    if console.options.ascii_only:
        return _ASCII
    return _PLAIN if console.no_color or not console.is_terminal else _UNICODE
