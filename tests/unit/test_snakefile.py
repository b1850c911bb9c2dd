"""The text of compiled Snakefiles, compared with the files in `tests/golden/`.

After a change that is meant, write the files anew and read the difference:

    TIGERFLOW_UPDATE_GOLDEN=1 pytest tests/unit/test_snakefile.py; git diff tests/golden
"""

import ast
import os
from io import StringIO
from pathlib import Path

import pytest
from golden_cases import (
    AWKWARD,
    CASES,
    EVERY_PARAM,
    load_case,
    render_case,
    render_workers_case,
)
from snakefmt.formatter import Formatter
from snakefmt.parser.parser import Snakefile

from tigerflow.compiler.rules import build_rules
from tigerflow.compiler.snakefile import render_limits, render_workers
from tigerflow.compiler.texts import (
    is_ours,
    profile_text,
    shipped_profile,
)
from tigerflow.compiler.worker_tasks import build_worker_task
from tigerflow.tasks.worker_task import WorkerTask

GOLDEN = Path(__file__).parents[1] / "golden"


def matches_golden(name, text):
    path = GOLDEN / name
    if "TIGERFLOW_UPDATE_GOLDEN" in os.environ:
        path.write_text(text)
    return text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_snakefile_is_the_golden_one_and_formatted(name, tmp_path, monkeypatch):
    pipeline = load_case(CASES[name], tmp_path, monkeypatch)

    text = render_case(CASES[name], pipeline)

    assert matches_golden(f"{name}.smk", text)
    assert Formatter(Snakefile(StringIO(text))).get_formatted() == text


@pytest.mark.parametrize("name", ["kinds", "workers"])
def test_workers_snakefile_is_the_golden_one_and_formatted(name, tmp_path, monkeypatch):
    pipeline = load_case(CASES[name], tmp_path, monkeypatch)

    text = render_workers_case(CASES[name], pipeline)

    assert matches_golden(f"{name}.workers.smk", text)
    assert Formatter(Snakefile(StringIO(text))).get_formatted() == text
    assert is_ours(text)


def test_workers_snakefile_of_a_task_by_itself_is_formatted(tmp_path, monkeypatch):
    rules = build_rules(load_case(CASES["workers"], tmp_path, monkeypatch))

    text = render_workers(rules, None, AWKWARD)

    assert matches_golden("alone.workers.smk", text)
    assert Formatter(Snakefile(StringIO(text))).get_formatted() == text


def test_workers_profile_is_the_golden_one():
    text = shipped_profile("workers")

    assert matches_golden("workers.profile.yaml", text)
    assert is_ours(text)


def test_rendering_twice_gives_the_same_text(tmp_path, monkeypatch):
    case = CASES["kinds"]

    first, second = (
        render_case(case, load_case(case, tmp_path, monkeypatch)) for _ in range(2)
    )

    assert first == second


def test_jobs_of_batches_hold_no_core_and_are_as_many_as_two_have(
    tmp_path, monkeypatch
):
    pipeline = load_case(CASES["batches"], tmp_path, monkeypatch)
    rules = build_rules(pipeline)

    assert [(rule.limit, rule.threads) for rule in rules] == [(2 * 8 * 2, 0)]
    assert "one batch runs while the next one fills" in profile_text(
        "local", rules, "/"
    )
    [task] = pipeline.tasks
    described = build_worker_task(pipeline, task, tmp_path, tmp_path)
    assert (described.batch_size, described.threads) == (8, 0)


@pytest.mark.parametrize("profile", ["local", "slurm", "tigerflow"])
def test_profile_has_the_limits_of_the_rules(profile, tmp_path, monkeypatch):
    rules = build_rules(load_case(CASES["kinds"], tmp_path, monkeypatch))

    text = profile_text(profile, rules, "/data/out")

    assert matches_golden(f"kinds.{profile}.profile.yaml", text)
    assert render_limits(rules) == {
        "train_files": 3,
        "fetch_files": 30,
        "store_files": 1,
    }


def test_default_profile_leaves_limits_to_the_others(tmp_path, monkeypatch):
    rules = build_rules(load_case(CASES["kinds"], tmp_path, monkeypatch))

    text = profile_text("default", rules, "/data/out")

    assert matches_golden("kinds.default.profile.yaml", text)


def test_params_in_the_snakefile_are_those_of_the_pipeline(tmp_path, monkeypatch):
    case = CASES["params"]

    text = render_case(case, load_case(case, tmp_path, monkeypatch))

    literal = text.partition("task=")[2].partition("\n    shell:")[0].rstrip(",\n ")
    literal = literal.replace('float("inf")', "1e999")
    assert ast.literal_eval(literal) == EVERY_PARAM


def test_files_written_by_compile_are_recognized(tmp_path, monkeypatch):
    pipeline = load_case(CASES["chain"], tmp_path, monkeypatch)

    assert is_ours(render_case(CASES["chain"], pipeline))
    assert is_ours(profile_text("local", build_rules(pipeline), "/data/out"))


@pytest.mark.parametrize("text", ["", "rule all:\n", "{}", '{"name": "a"}', "[1]"])
def test_files_of_others_are_not_taken_for_those_of_compile(text):
    assert not is_ours(text)


@pytest.mark.parametrize("name", ["kinds", "batches", "software"])
def test_worker_task_survives_the_json_that_compile_writes(name, tmp_path, monkeypatch):
    pipeline = load_case(CASES[name], tmp_path, monkeypatch)

    for task in pipeline.tasks:
        built = build_worker_task(pipeline, task, tmp_path, tmp_path)
        text = built.to_json()

        assert WorkerTask.from_json(text) == built
        assert is_ours(text)
