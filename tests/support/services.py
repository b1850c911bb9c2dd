"""Running services, and what they leave."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

from flows import Flow
from runs import DEADLINE_S, World, wait_until

from tigerflow.rundir import journal
from tigerflow.rundir.events import Event, FileDone

E = TypeVar("E", bound=Event)

NOTHING_TO_DO = "Nothing to be done"

#: A first task, in which "bad" fails.
HEAD_CLASS = """
import asyncio

class Head(LocalTask):
    def setup(context): note("setup head")
    def run(context, input_file, output_file):
        note(f"head {input_file.stem}")
        text = input_file.read_text()
        if text == "bad":
            raise ValueError("this one is bad")
        output_file.write_text(text.upper())
    def teardown(context): note("teardown head")
"""

#: The same, and two branches that depend on it.
TREE = (
    HEAD_CLASS
    + """

class Left(LocalTask):
    def run(context, input_file, output_file):
        note(f"left {input_file.stem}")
        text = input_file.read_text()
        if text == "LEFT":
            raise ValueError("not to the left")
        output_file.write_text(text + "<")


class Right(LocalAsyncTask):
    async def run(context, input_file, output_file):
        note(f"right {input_file.stem}")
        output_file.write_text(input_file.read_text() + ">")
"""
)


class Watched(Flow):
    """A pipeline that `tigerflow watch` serves."""

    def __init__(self, world: World, name: str = "out", **environment: str) -> None:
        super().__init__(world, name, **environment)
        self.world = world
        self.log = self.root / f"{name}.log"

    def write(self, *tasks: dict[str, Any], steps: list[Any] | None = None) -> None:
        """Write the pipeline file."""
        full = [
            {"kind": "local", "module": "tasks.py", "input_ext": ".txt"} | task
            for task in tasks
        ]
        data: dict[str, Any] = {"tasks": full}
        if steps:
            data["staging"] = {"steps": steps}
        self.pipeline.write_text(json.dumps(data))

    @property
    def pipeline(self) -> Path:
        return self.root / "pipeline.yaml"

    def command(self, name: str, *words: object) -> "subprocess.Popen[str]":
        """Start a command of ours in a group of its own, as a terminal does."""
        return self.launch(sys.executable, "-m", "tigerflow", name, *words)

    def launch(self, *words: object) -> "subprocess.Popen[str]":
        """Start any program, as `command` does."""
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*self.host, *map(str, words)],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                process_group=0,
            )
        self._started.append(process)
        return process

    def watch(self, *options: str) -> "subprocess.Popen[str]":
        return self.command("watch", self.pipeline, self.inputs, self.out, *options)

    def once(self, *options: str) -> int:
        """Serve what is there; return the exit code."""
        return self.watch("--once", *options).wait(DEADLINE_S)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def worker_logs(self) -> str:
        """Return what the workers of all tasks said."""
        logs = (self.out / ".tigerflow" / "logs").glob("*.log")
        return "".join(p.read_text() for p in logs if p.name != "snakemake.log")

    def until(self, *paths: str) -> None:
        """Wait until all these are there."""
        wait_until(
            lambda: all((self.out / path).exists() for path in paths),
            lambda: f"{paths} are there; it said: {self.said}",
        )

    def until_said(self, text: str) -> None:
        wait_until(lambda: text in self.said, lambda: f"{text!r} is said: {self.said}")

    def stop(
        self, process: "subprocess.Popen[str]", number: int = signal.SIGINT
    ) -> int:
        """Stop a service; return its exit code."""
        process.send_signal(number)
        return process.wait(DEADLINE_S)

    def replace(self, name: str, text: str, age_s: float = 0) -> None:
        """Move a file in place, as `mv` and `rsync` do, with an age."""
        temporary = self.root / f"{name}.part"
        temporary.write_text(text)
        when = time.time() - age_s
        os.utime(temporary, (when, when))
        temporary.replace(self.inputs / name)

    def texts(self, task: str) -> dict[str, str]:
        """Return the results of a task by name."""
        texts = {}
        for name in self.names(task):
            # One that is made anew may have gone meanwhile.
            with contextlib.suppress(FileNotFoundError):
                texts[name] = (self.out / task / name).read_text()
        return texts

    def events(self, kind: type[E]) -> list[E]:
        """Return the events of a kind that the journal has so far."""
        path = self.out / ".tigerflow" / "journal.jsonl"
        return [each for each in journal.read(path) if isinstance(each, kind)]

    def settled(self, *stems: str) -> bool:
        """Tell whether the journal has these input files as done."""
        done = {event.file for event in self.events(FileDone)}
        return {f"{stem}.txt" for stem in stems} <= done

    def dry_run(self) -> str:
        """Return what Snakemake would do."""
        return self.snakemake("--dry-run")[1]

    def leftovers(self) -> list[object]:
        """Return all that a service must not leave: processes, sockets, temporaries."""
        left: list[object] = [*self.world.processes(), *self.runtime_files()]
        left += self.root.rglob(".~tf_*")
        left += [
            path for path in (self.out / ".tigerflow").glob("run.pid") if path.is_file()
        ]
        return left

    def until_nothing_is_left(self) -> None:
        wait_until(
            lambda: not self.leftovers(), lambda: f"nothing is left: {self.leftovers()}"
        )


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
