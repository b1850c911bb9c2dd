"""Help: the same words and forms for all commands, and for tasks as programs."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
import typer
import typer.main

from tigerflow.cli._help import with_plain_help
from tigerflow.cli._task_options import all_options
from tigerflow.cli.root import app
from tigerflow.tasks import LocalTask
from tigerflow.tasks.fields import build_command

ROOT = with_plain_help(typer.main.get_command(app))


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*words, name))


def shown(capsys, *words, command=ROOT):
    """Return what a command line prints, as one line."""
    assert command.main(words, prog_name="tigerflow", standalone_mode=False) == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize("words", [*commands(ROOT)], ids=" ".join)
def test_help_has_one_form_for_every_command(words, capsys):
    text = shown(capsys, *words, "--help")

    assert shown(capsys, *words, "-h") == text
    assert "--help -h Show this message and exit." in text
    # No {pipeline} or OUTPUT_DIR <path>, and no type for a flag.
    assert not re.findall(r"[{}<]", text)


def test_arguments_of_a_command_are_named_as_in_the_documents(capsys):
    text = shown(capsys, "watch", "--help")

    assert "Usage: tigerflow watch [OPTIONS] PIPELINE INPUT_DIR OUTPUT_DIR " in text
    assert "* PIPELINE PATH Pipeline file (YAML) [required]" in text
    assert "--once Process existing files" in text
    assert "[OPTIONS] OUTPUT_DIR [FILE]... " in shown(capsys, "retry", "--help")


class Translate(LocalTask):
    class Params:
        host: Annotated[str, typer.Option("--host", "-h", help="Where")] = "here"
        size: Literal["small", "large"] = "small"
        pair: tuple[str, int] = ("a", 1)
        names: Annotated[list[str] | None, typer.Option(help="Which")] = None
        loud: bool = False

    @staticmethod
    def run(context, input_file, output_file):
        pass


def test_help_of_a_task_names_the_types_of_its_params(capsys):
    command = with_plain_help(build_command(all_options(Translate), lambda **_: None))

    text = shown(capsys, "--help", command=command)

    assert "* --input-dir PATH Input directory to read data [required]" in text
    assert "* --input-ext TEXT Input file extension [required]" in text
    # The author's own -h is not taken from the task.
    assert "--host -h TEXT Where [default: here]" in text
    assert "--size [small|large] [default: small]" in text
    assert "--pair TEXT INTEGER... [default: a, 1]" in text
    assert "--names TEXT Which" in text
    assert "--loud --no-loud [default: no-loud]" in text
    assert "--help Show this message and exit." in text


def test_a_command_without_arguments_shows_what_there_is(capsys):
    with pytest.raises(SystemExit) as ended:
        ROOT.main((), prog_name="tigerflow")

    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "Usage: tigerflow [OPTIONS] COMMAND" in said.out + said.err
    assert "Missing command" not in said.out + said.err
