"""What the page on Slurm says is so: it can be followed, and quotes what is said."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from documents import DOCS, follow
from slurm.throwaway import Cluster

import tigerflow
from tigerflow.settings import Settings

PAGE = DOCS / "slurm.md"

#: What the page has labelled in all, when it comes to the three ways.
TEXTS = 4

#: Programs that a cluster has; each notes what it was called with.
STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*" >> {notes}\n'


@pytest.mark.slurm
@pytest.mark.snakemake
def test_page_on_slurm_can_be_followed(
    tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, notes = tmp_path / "programs", tmp_path / "notes"
    programs.mkdir()
    for name in ("module", "conda"):
        (programs / name).write_text(STAND_IN.format(notes=notes))
        (programs / name).chmod(0o755)
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "root")
    instead = {
        "python3 -m venv ~/tigerflow": f"ln -s {sys.prefix} ~/tigerflow",
        # It is there.
        "pip install /path/to/tigerflow": "pip show --quiet tigerflow",
        # So that there is something left to do.
        'pipeline.yaml texts results"': 'pipeline.yaml texts by-job"',
        "my-cluster pipeline.yaml texts results": (
            "my-cluster pipeline.yaml texts by-profile"
        ),
    }

    printed = follow(PAGE, tmp_path, instead, programs)

    assert (tmp_path / "labels" / "a.label").read_text() == "3 words, GPU none\n"
    for results in ("results", "by-job", "by-profile", "elsewhere"):
        labels = [*(tmp_path / results / "label").iterdir()]
        assert {path.name for path in labels} >= {"a.label"}
        for path in labels:
            assert re.fullmatch(r"3 words, GPU \d\n", path.read_text())
    assert len([*(tmp_path / "results" / "label").iterdir()]) == TEXTS
    assert "PARTITION TIMELIMIT GRES" in printed
    assert "pipeline.yaml: no problems found (1 task)\n" in printed
    assert "Submitted task with Slurm job ID" in printed
    called = notes.read_text().splitlines()
    assert called[:2] == ["module load anaconda3/2024.6", "conda activate speech"]
    assert slurm.jobs() == []


@pytest.mark.parametrize("page", ["slurm.md", "troubleshooting.md"])
def test_messages_on_the_page_are_those_of_the_code(page: str) -> None:
    said = set(_texts())
    heads = ("message", "it goes on with", "`exception_type`")
    quoted = [row[0] for head in heads for row in _rows(DOCS / page, head)]

    assert len(quoted) > 10
    for message in quoted:
        text = message.strip("`").removesuffix("…").removeprefix("…").strip()
        assert any(text in each for each in said), message


def test_settings_on_the_page_are_those_of_the_code() -> None:
    shown = {name.strip("`"): int(value) for name, value, _ in _rows(PAGE, "variable")}

    assert shown == {
        f"TIGERFLOW_{field.name.upper()}": int(field.default)
        for field in fields(Settings)
    }
    named = set(re.findall(r"TIGERFLOW_\w+", PAGE.read_text()))
    assert named == set(shown)


def _rows(page: Path, head: str) -> Iterator[list[str]]:
    """Yield the cells of the tables whose first column has this head."""
    is_inside = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            is_inside = False
        elif cells[0] == head:
            is_inside = True
        elif is_inside and not cells[0].startswith("---"):
            yield cells


def _texts() -> Iterator[str]:
    """Yield the texts in the package's code, with `…` for what varies."""
    for path in Path(tigerflow.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    yield re.sub(r"\{[^{}]*\}", "…", text)
                case ast.ClassDef(name=name):
                    yield name
                case ast.JoinedStr(values=parts):
                    yield "".join(map(_part, parts))


def _part(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(conversion=conversion):
            return "'…'" if conversion == ord("r") else "…"
    raise AssertionError(node)
