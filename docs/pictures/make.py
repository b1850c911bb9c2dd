"""Make the pictures of the README from one real run: `python docs/pictures/make.py`.

The service of `examples/speech` runs on a terminal. Recordings are there at the start,
one of them cut short, and others arrive. `watch.svg` is a recording of that terminal;
`report-light.png` and `report-dark.png` show the page of that run's report. This takes
some minutes and needs what `make test` installs. Look at the pictures before you commit
them.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests" / "support"))

from browsers import Look, a_browser  # noqa: E402 -- where it is comes first
from terminals import Screen, terminal  # noqa: E402

EXAMPLE = ROOT / "examples" / "speech"
PROGRAMS = Path(sys.executable).parent
COMMAND = "tigerflow watch pipeline.yaml inbox results"
COLUMNS = 84
#: How many frames the recording has, for how long each is shown, and the last one more.
FRAMES = 12
FRAME_S = 1
PAUSE_S = 3
#: All recordings arrive again on each of these, for a longer report.
DAYS = ("mon", "tue", "wed")
PAGE = {"width": 1000, "height": 1000}

#: The frames lie on top of each other and take turns; without animation, one is shown.
DRAWING = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>{title}</title>
<style>
text {{ font: 20px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre }}
.frame {{ visibility: hidden }}
#still {{ visibility: visible }}
@media (prefers-reduced-motion: no-preference) {{
.frame, #still {{ visibility: hidden; animation: {seconds}s step-end infinite turn }}
.frame:last-child {{ animation-name: rest }}
@keyframes turn {{ 0% {{ visibility: visible }} {turn}% {{ visibility: hidden }} }}
@keyframes rest {{ 0% {{ visibility: visible }} {rest}% {{ visibility: hidden }} }}
}}
{styles}
</style>
<rect width="{width}" height="{height}" rx="8" fill="{background}"/>
<g transform="translate(14 8)">
{frames}
</g>
</svg>
"""
#: What is taken of each drawing of rich.
_PARTS = "{styles}\0{matrix}"


class Coloured(Screen):
    """A screen whose lines keep the sequences that colour them."""

    def __init__(self) -> None:
        # Sequences take no room on a terminal: lines are wrapped later, without them.
        super().__init__(columns=10_000)

    def _take(self, token: str, number: str | None, command: str | None) -> None:
        if command == "m":
            self._print(token)
        else:
            super()._take(token, number, command)


def main() -> None:
    """Run the example, and draw what it shows and reports."""
    # The page shows this name.
    work = Path(tempfile.gettempdir()) / "speech"
    shutil.copytree(EXAMPLE, work)
    try:
        (HERE / "watch.svg").write_text(record(work), encoding="utf-8")
        photograph(report(work))
    finally:
        shutil.rmtree(work)


def record(work: Path) -> str:
    """Return a recording of the service; then let it process more, for the report."""
    recordings = sorted((work / "audio").iterdir())
    inbox = work / "inbox"
    inbox.mkdir()
    arrive(recordings[:8], inbox)
    (inbox / "cut.wav").write_bytes(recordings[0].read_bytes()[:50_000])

    # The shell shows the command.
    words = ["sh", "-xc", COMMAND]
    how = {"columns": COLUMNS, "env": environment()}
    with embedding_server(work), terminal(words, work, **how) as shown:
        shown.until_shown("8 of 9 files done, 1 failed", "waiting for files")
        arrive(recordings[8:], inbox)
        shown.until_shown("12 of 13 files done, 1 failed", "waiting for files")
        recorded = shown.raw
        total = 13
        for day in DAYS:
            arrive(recordings, inbox, f"{day}_")
            total += len(recordings)
            shown.until_shown(f"{total - 1} of {total} files done", "waiting for files")
        shown.press(b"\x03")
        shown.ended()
    return draw(frames_of(recorded))


def arrive(recordings: list[Path], inbox: Path, prefix: str = "") -> None:
    """Copy recordings to where the service looks for them."""
    for path in recordings:
        shutil.copy(path, inbox / f"{prefix}{path.name}")


@contextlib.contextmanager
def embedding_server(work: Path) -> Iterator[None]:
    """Start the example's server on a free port, and set the port in the pipeline."""
    command = [sys.executable, work / "embedding_server.py", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        pipeline = work / "pipeline.yaml"
        usual = "http://127.0.0.1:8765/v1/embeddings"
        pipeline.write_text(pipeline.read_text().replace(usual, address))
        try:
            yield
        finally:
            server.terminate()


def environment() -> dict[str, str]:
    """Return the same environment for everyone who makes the pictures."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    usual = {"PS4": "$ ", "TERM": "xterm-256color", "LANG": "C.UTF-8", "PATH": path}
    others = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM")
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return kept | usual


def frames_of(recorded: str) -> list[Text]:
    """Return what stood on the screen after some of its changes, evenly chosen."""
    screen = Coloured()
    frames: list[list[str]] = []
    # The display ends each of its drawings so.
    for part in re.findall(r".*?\x1b\[J", recorded, re.DOTALL):
        screen.feed(part)
        if not frames or screen.lines != frames[-1]:
            frames.append(screen.lines)
    last = len(frames) - 1
    chosen = [frames[last * number // (FRAMES - 1)] for number in range(FRAMES)]
    return [Text("\n").join(wrapped(lines)) for lines in chosen]


def wrapped(lines: list[str]) -> Iterator[Text]:
    """Return lines as a terminal shows them that is not as wide as they are."""
    for line in lines:
        text = Text.from_ansi(line)
        yield from text.divide(range(COLUMNS, len(text), COLUMNS))


def draw(frames: list[Text]) -> str:
    """Return one drawing of all frames."""
    styles, groups = [], []
    still = len(frames) // 2
    seconds = len(frames) * FRAME_S + PAUSE_S
    for number, frame in enumerate(frames):
        style, matrix = _svg(frame, f"f{number}")
        styles.append(style)
        start = f"animation-delay:{number * FRAME_S}s"
        name = ' id="still"' if number == still else ""
        groups.append(f'<g class="frame"{name} style="{start}">{matrix}</g>')
    height = max(len(frame.plain.splitlines()) for frame in frames)
    return DRAWING.format(
        width=round(COLUMNS * 12.2) + 28,
        height=round(height * 24.4) + 22,
        title=f"{COMMAND}: a bar per task, while files arrive",
        seconds=seconds,
        turn=f"{100 * FRAME_S / seconds:g}",
        rest=f"{100 * (FRAME_S + PAUSE_S) / seconds:g}",
        styles="\n".join(styles),
        background=SVG_EXPORT_THEME.background_color.hex,
        frames="\n".join(groups),
    )


def _svg(frame: Text, name: str) -> tuple[str, str]:
    """Return the styles and the texts of a frame, as SVG."""
    console = Console(width=COLUMNS, record=True, file=StringIO())
    console.print(frame, soft_wrap=True)
    drawn = console.export_svg(code_format=_PARTS, unique_id=name)
    styles, matrix = drawn.split("\0")
    # Nothing sticks out of its line.
    return styles, re.sub(r' clip-path="[^"]*"', "", matrix)


def report(work: Path) -> Path:
    """Write the page of the run's report."""
    command = ["tigerflow", "report", "results", "--html", "report.html"]
    subprocess.run(command, cwd=work, env=environment(), check=True)
    return work / "report.html"


def photograph(page: Path) -> None:
    """Show the page as far as its first chart, in both colour schemes."""
    options = {"viewport": PAGE, "device_scale_factor": 1.5}
    with a_browser() as browser:
        for scheme in ("light", "dark"):
            with Look(browser, page, color_scheme=scheme, **options) as look:
                chart = look.box(".chart")
                height = chart["y"] + chart["height"] + 12
                clip = {"x": 0, "y": 0, "width": PAGE["width"], "height": height}
                look.page.screenshot(path=HERE / f"report-{scheme}.png", clip=clip)


if __name__ == "__main__":
    main()
