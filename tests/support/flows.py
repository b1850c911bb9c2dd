"""Compiled pipelines, run by a real Snakemake."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from runs import DEADLINE_S, World, finish, lines, module_text, runtime_files

_BIN = Path(sys.executable).parent
SNAKEMAKE = shutil.which("snakemake", path=str(_BIN)) or "snakemake"
TIGERFLOW = [sys.executable, "-m", "tigerflow"]

#: A task, and two that both go on from it.
HEAD = {"name": "head", "module": "tasks.py:Head"}
LEFT = {
    "name": "left",
    "module": "tasks.py:Left",
    "depends_on": "head",
    "input_ext": ".out",
    "output_ext": ".md",
}
RIGHT = {
    "name": "right",
    "module": "tasks.py:Right",
    "kind": "local_async",
    "concurrency_limit": 4,
    "depends_on": "head",
    "input_ext": ".out",
}


class Flow:
    """A pipeline, its input and output directories, and the runs of it."""

    def __init__(self, world: World, name: str = "out", **environment: str) -> None:
        #: Options of every Snakemake.
        self.options: list[str] = []
        #: Words that have a command run on another host.
        self.host: list[str] = []
        self.root = world.directory
        self.inputs = self.root / "in"
        self.out = self.root / name
        self.notes = self.root / "notes.txt"
        self.environment = world.environment(**environment)
        self._started: list[subprocess.Popen[str]] = []
        self.inputs.mkdir(exist_ok=True)
        world.runs.append(self)

    def add_inputs(self, *stems: str) -> None:
        for stem in stems:
            (self.inputs / f"{stem}.txt").write_text(stem, errors="surrogateescape")

    def add_module(self, code: str, name: str = "tasks") -> None:
        (self.root / f"{name}.py").write_text(module_text(code, self.notes))

    def call(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, and keep what it prints."""
        return subprocess.run(
            [*self.host, *map(str, words)],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def compile(self, *tasks: dict[str, Any], module: str = "tasks.py") -> str:
        """Compile a pipeline of these tasks; return what the command said."""
        full = [
            {"kind": "local", "module": module, "input_ext": ".txt"} | task
            for task in tasks
        ]
        pipeline = self.root / "pipeline.yaml"
        pipeline.write_text(json.dumps({"tasks": full}))
        words = ["compile", pipeline, self.inputs, self.out]
        done = self.call(*TIGERFLOW, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(
        self,
        *options: str,
        cores: int | None = 2,
        profile: str | None = "local",
    ) -> "subprocess.Popen[str]":
        """Start Snakemake in a process group of its own, as a terminal does."""
        workflow = self.out / ".tigerflow" / "workflow"
        words = ["-s", str(workflow / "Snakefile")]
        if profile is not None:
            words += ["--profile", str(workflow / "profiles" / profile)]
        words += [] if cores is None else ["--cores", str(cores)]
        words += [*self.options, *options]
        process = subprocess.Popen(
            [*self.host, SNAKEMAKE, *words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
            process_group=0,
        )
        self._started.append(process)
        return process

    def snakemake(self, *options: str, **how: Any) -> tuple[int, str]:
        """Run Snakemake to its end; return its exit code and what it said."""
        return finish(self.start(*options, **how))

    def noted(self, word: str = "") -> list[str]:
        """Return the notes that start with `word`, sorted."""
        return sorted(line for line in lines(self.notes) if line.startswith(word))

    def forget(self) -> None:
        """Start the notes anew."""
        self.notes.unlink(missing_ok=True)

    def names(self, task: str) -> list[str]:
        """Return the names of all that is among a task's results."""
        directory = self.out / task
        if not directory.exists():
            return []
        return sorted(path.name for path in directory.iterdir())

    def end_owner(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def runtime_files(self) -> list[Path]:
        """Return what the run's host left outside the output directory."""
        return runtime_files(self.out) if (self.out / ".tigerflow").exists() else []
