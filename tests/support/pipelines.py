"""Tasks and pipeline files for the tests of the compiler."""

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.errors import PipelineError, TaskLoadError, TigerflowError
from tigerflow.pipeline.spec import load_pipeline
from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask
from tigerflow.tasks.describe import describe_task
from tigerflow.tasks.loader import Reference


class Upper(LocalTask):
    """Write a text in capitals."""

    @staticmethod
    def run(_context, input_file, output_file):
        output_file.write_text(input_file.read_text().upper())


class Fetch(LocalAsyncTask):
    """Ask a service about a text."""

    @staticmethod
    async def run(_context, _input_file, output_file):
        output_file.write_text("fetched")


class Train(SlurmTask):
    """Train a model.

    More about it, which no rule needs.
    """

    @staticmethod
    def run(_context, _input_file, output_file):
        output_file.write_text("trained")


class Embed(LocalTask):
    """Make vectors of texts, of several at once."""

    batch_size = 8

    @staticmethod
    def run_batch(_context, pairs):
        for _input_file, output_file in pairs:
            output_file.write_text("[]")


class Typed(LocalTask):
    '''A "doc" with \\ and """quotes" that ends in a "quote"'''

    class Params:
        text: str = ""
        number: int = 1
        share: Annotated[float, typer.Option(min=0, max=1)] = 0.5
        flag: bool = False
        names: Annotated[list[str] | None, typer.Option()] = None

    @staticmethod
    def run(context, _input_file, output_file):
        output_file.write_text(repr(vars(context)))


class Store(LocalTask):
    class Params:
        db_path: Path

    @staticmethod
    def run(context, input_file, output_file):
        pass


def ask_here(module, directory, params=None, _setup_commands=()):
    """Do what `ask_task` does, without a process: for tasks that are known to load."""
    reference = Reference.parse(module, directory)
    try:
        return describe_task(reference, directory, params)
    except TigerflowError as error:
        raise TaskLoadError(str(error)) from error


def write_pipeline(directory, text, name="pipeline.yaml"):
    path = directory / name
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    return path


def mistakes_in(path):
    """Return the lines of a pipeline file's mistakes, with the file's name alone."""
    try:
        load_pipeline(path)
    except PipelineError as error:
        return [line.replace(str(path), path.name) for line in error.lines]
    return []


UPPER = """
from tigerflow.tasks import LocalTask


class Upper(LocalTask):
    \"\"\"Write a text in capitals.\"\"\"

    @staticmethod
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text().upper())


Upper.cli()
"""


def write_project(directory):
    """Write a two-task pipeline with its module and two inputs; return its file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "upper.py").write_text(UPPER)
    (directory / "in").mkdir()
    for name in ("a", "b"):
        (directory / "in" / f"{name}.txt").write_text(name)
    return write_pipeline(
        directory,
        """
        tasks:
          - name: first
            kind: local
            module: upper.py
            input_ext: .txt
          - name: second
            kind: local
            module: upper.py
            depends_on: first
            input_ext: .out
            output_ext: .md
        """,
    )
