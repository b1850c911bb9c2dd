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
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from runs import DEADLINE_S, wait_until

DOCS = Path(__file__).parents[2] / "docs"
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
    terminal = _Terminal(directory, path)
    for block in blocks(page):
        text = block.text
        for old, new in instead.items():
            if old in text:
                text = text.replace(old, new)
                unused.discard(old)
        if block.title is not None:
            target = terminal.directory / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif block.language == "bash":
            terminal.enter(block.place, text)
    assert not unused, f"{page.name} has no {sorted(unused)}"
    return "".join(terminal.printed)


class _Terminal:
    """One shell for all commands of a page: directory and variables last."""

    def __init__(self, directory: Path, path: Path | None) -> None:
        self.directory = directory
        self.printed: list[str] = []
        self._place = ""
        # In no directory that the page sees.
        self._state = directory.with_name(f"{directory.name}.state")
        first = [path] if path else []
        words = [*first, PROGRAMS, os.environ["PATH"]]
        self._environment = os.environ | {"PATH": os.pathsep.join(map(str, words))}

    def enter(self, place: str, commands: str) -> None:
        self._place = place
        waiting: list[str] = []
        for line in commands.replace("\\\n", " ").splitlines():
            if _SERVES.match(line):
                self._run("\n".join(waiting))
                self._serve(line)
                waiting = []
            else:
                waiting.append(line)
        self._run("\n".join(waiting))

    def _run(self, commands: str) -> None:
        if not commands.strip():
            return
        state = shlex.quote(str(self._state))
        ending = f"export -p > {state}\nprintf '\\n%s' \"$PWD\""
        done = self._shell(f"{commands}\n{ending}", stdout=subprocess.PIPE)
        printed, _ = done.communicate(timeout=4 * DEADLINE_S)
        told = f"{self._place}: exit code {done.returncode}\n{printed}"
        assert done.returncode == 0, told
        printed, _, where = printed.rpartition("\n")
        self.directory = Path(where)
        self.printed.append(printed)

    def _serve(self, line: str) -> None:
        output = shlex.split(line, comments=True)[-1]
        report = " ".join([*_REPORT, shlex.quote(output)])

        def is_done() -> bool:
            if service.poll() is not None:
                return True
            asked = self._shell(f"exec {report}", stdout=subprocess.PIPE)
            text, _ = asked.communicate(timeout=DEADLINE_S)
            if asked.returncode != 0:
                return False
            found = json.loads(text)
            counts = found["progress"]["pipeline"]
            done = counts["finished"] + counts["errored"]
            return bool(found["status"]["running"] and 0 < done == counts["total"])

        with tempfile.TemporaryFile("w+") as log:
            service = self._shell(f"exec {line}", stdout=log)
            try:
                wait_until(is_done, line, pause_s=0.2)
                told = f"{self._place}: {line!r} has ended by itself"
                assert service.poll() is None, told
                service.terminate()
                assert service.wait(timeout=DEADLINE_S) == 143
            finally:
                service.kill()
                service.wait()
                log.seek(0)
                self.printed.append(log.read())

    def _shell(self, commands: str, stdout: Any) -> "subprocess.Popen[str]":
        before = f". {shlex.quote(str(self._state))}\n" if self._state.exists() else ""
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", before + commands],
            cwd=self.directory,
            env=self._environment,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
