"""Tasks run by their own command line, in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap

from runs import DEADLINE_S, wait_until

#: A line of the log.
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| (INFO|WARNING|ERROR|METRICS) {1,4} *\| .*"
)

#: A task whose methods are the bodies it is given; `here` is the test's directory.
SYNC = """
import os, sys, time
from pathlib import Path
from tigerflow.tasks import LocalTask

here = Path(__file__).parent

def wait_for(name):
    while not (here / name).exists():
        time.sleep(0.01)

class Job(LocalTask):
    @staticmethod
    def setup(context):
        {setup}

    @staticmethod
    def run(context, input_file, output_file):
        {run}

    @staticmethod
    def teardown(context):
        {teardown}

Job.cli()
"""

ASYNC = """
import asyncio
from pathlib import Path
from tigerflow.tasks import LocalAsyncTask

here = Path(__file__).parent

async def wait_for(name):
    while not (here / name).exists():
        await asyncio.sleep(0.01)

class Job(LocalAsyncTask):
    @staticmethod
    async def setup(context):
        {setup}

    @staticmethod
    async def run(context, input_file, output_file):
        {run}

    @staticmethod
    async def teardown(context):
        {teardown}

Job.cli()
"""

#: The Slurm task of the documents.
TRANSCRIBE = """
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import SlurmTask
from tigerflow.utils import SetupContext


class Transcribe(SlurmTask):
    class Params:
        model_file: Annotated[
            Path,
            typer.Option(help="Path to the Whisper model file"),
        ]

    @staticmethod
    def setup(context: SetupContext):
        import whisper

        context.model = whisper.load_model(str(context.model_file))
        print("Model loaded successfully")

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path):
        result = context.model.transcribe(str(input_file))
        print(f"Transcription ran successfully for {input_file}")

        with open(output_file, "w") as f:
            f.write(result["text"])


Transcribe.cli()
"""


def task(template=SYNC, setup="pass", run="pass", teardown="print('torn down')"):
    bodies = {
        name: textwrap.indent(textwrap.dedent(body).strip(), " " * 8).strip()
        for name, body in (("setup", setup), ("run", run), ("teardown", teardown))
    }
    return template.format(**bodies)


def slurm_task(**bodies):
    return task(SYNC.replace("LocalTask", "SlurmTask"), **bodies)


class Service:
    """A running task, with what it has said so far."""

    def __init__(self, bench, words):
        self._out = bench.path / f"stdout-{bench.started}"
        self._log = bench.path / f"stderr-{bench.started}"
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words,
                cwd=bench.path,
                env=bench.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    @property
    def out(self):
        return self._out.read_text()

    @property
    def log(self):
        return self._log.read_text()

    def messages(self):
        """What it logged, without times and METRICS."""
        lines = [line for line in self.log.splitlines() if LINE.fullmatch(line)]
        return [
            f"{line[22:30].strip()} {line[33:]}"
            for line in lines
            if "METRICS" not in line
        ]

    def wait_for(self, message):
        wait_until(lambda: message in self.log or self.process.poll() is not None)
        assert message in self.log, self.log

    def end(self):
        return self.process.wait(DEADLINE_S)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.end()


class Bench:
    """An input and an output directory, a module, and the processes of it."""

    def __init__(self, path):
        self.path = path
        self.inputs, self.outputs = path / "in", path / "out"
        self.inputs.mkdir()
        self.outputs.mkdir()
        self.module = path / "my task.py"
        #: Words that have a command run on another host.
        self.host = []
        self.environment = os.environ | {
            "TIGERFLOW_TASK_POLL_INTERVAL": "1",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
        }
        self._services = []

    @property
    def started(self):
        """How many services were started."""
        return len(self._services)

    def words(self, *more, **changed):
        options = {
            "input-dir": "in",
            "input-ext": ".txt",
            "output-dir": "out",
            "output-ext": ".out",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        given = [f"--{name}={value}" for name, value in options.items()]
        return [*self.host, sys.executable, str(self.module), *given, *more]

    def start(self, code, *more, **changed):
        self.module.write_text(code)
        service = Service(self, self.words(*more, **changed))
        self._services.append(service)
        return service

    def once(self, code, *more, **changed):
        service = self.start(code, "--once", *more, **changed)
        service.end()
        return service

    def give(self, **files):
        for name, text in files.items():
            (self.inputs / f"{name}.txt").write_text(text)

    def results(self):
        """The names of all that is in the output directory, but for the state."""
        names = (path.name for path in self.outputs.iterdir())
        return sorted(name for name in names if name != ".tigerflow")

    def error(self, stem):
        return json.loads((self.outputs / f"{stem}.err").read_text())

    def close(self):
        for service in self._services:
            service.process.kill()
            service.process.wait()
