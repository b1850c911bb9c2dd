"""Run the pages of the documentation as a reader would: block by block, in order.

A block with a title is a file, which is written; one in `bash` is run and must succeed.
Other blocks are only shown. A line that serves until it is stopped is let go on until
all files are done, and then stopped.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from runs import DEADLINE_S, wait_until

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = Path(sys.executable).parent

_TITLE = re.compile(r'title="([^"]+)"')
_REPORT = ("tigerflow", "report", "--json", "--include", "status,progress")
_SERVES = re.compile(r"tigerflow (run|watch) (?!.*(--once|--background))")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    #: `page.md:line`.
    place: str
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            assert token.map is not None
            title = _TITLE.search(token.info)
            found.append(
                Block(
                    f"{page.name}:{token.map[0] + 1}",
                    token.info.split(maxsplit=1)[0] if token.info.strip() else "",
                    title and title[1],
                    token.content,
                )
            )
    return found


def follow(
    page: Path,
    directory: Path,
    instead: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> str:
    """Do what a page says in `directory`; return all that its commands printed.

    `instead` has texts that stand for others in its commands, for what a test cannot
    do; each must occur. Programs in the directory `path` come before all others.
    """
    instead = instead or {}
    unused = set(instead)
    directories = [*([path] if path else []), PROGRAMS, os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(map(str, directories))}
    printed = []
    for block in blocks(page):
        text = block.text
        for old, new in instead.items():
            if old in text:
                text = text.replace(old, new)
                unused.discard(old)
        if block.title is not None:
            target = directory / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif block.language == "bash":
            printed.append(_run(block.place, text, directory, environment))
    assert not unused, f"{page.name} has no {sorted(unused)}"
    return "".join(printed)


def _run(
    place: str, commands: str, directory: Path, environment: Mapping[str, str]
) -> str:
    printed = ""
    waiting: list[str] = []
    for line in [*commands.replace("\\\n", " ").splitlines(), ""]:
        if _SERVES.match(line):
            printed += _shell(place, "\n".join(waiting), directory, environment)
            printed += _serve(place, line, directory, environment)
            waiting = []
        else:
            waiting.append(line)
    return printed + _shell(place, "\n".join(waiting), directory, environment)


def _shell(
    place: str, script: str, directory: Path, environment: Mapping[str, str]
) -> str:
    if not script.strip():
        return ""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=4 * DEADLINE_S,
    )
    assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def _serve(
    place: str, line: str, directory: Path, environment: Mapping[str, str]
) -> str:
    words = shlex.split(line, comments=True)
    report = [*_REPORT, words[-1]]

    def is_done() -> bool:
        if service.poll() is not None:
            return True
        asked = subprocess.run(
            report,
            cwd=directory,
            env=environment,
            capture_output=True,
            check=False,
        )
        if asked.returncode != 0:
            return False
        found = json.loads(asked.stdout)
        counts = found["progress"]["pipeline"]
        done = counts["finished"] + counts["errored"]
        return bool(found["status"]["running"] and 0 < done == counts["total"])

    with subprocess.Popen(
        words,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as service:
        try:
            wait_until(is_done, line, pause_s=0.2)
            assert service.poll() is None, f"{place}: {line!r} has ended by itself"
            service.terminate()
            printed, _ = service.communicate(timeout=DEADLINE_S)
        finally:
            service.kill()
    assert service.returncode == 143, f"{place}: {line!r} printed:\n{printed}"
    return printed
