"""What the staging steps choose."""

import os
import sys
import time
from pathlib import Path

import pytest

from tigerflow.errors import StagingError
from tigerflow.pipeline.staging import Staging, StagingContext


@pytest.fixture
def paths(tmp_path):
    made = []
    for number, name in enumerate(["b.txt", "a.txt", "c.txt"], start=1):
        path = tmp_path / name
        path.write_bytes(bytes(number))
        when = time.time() - 100 * number
        os.utime(path, (when, when))
        made.append(path)
    return made


@pytest.fixture
def select(paths, tmp_path):
    def choose(*steps, staged=0):
        context = StagingContext(
            waiting=len(paths),
            staged=staged,
            completed=0,
            failed=0,
            input_dir=tmp_path,
            output_dir=tmp_path,
        )
        staging = Staging.model_validate({"steps": steps})
        return "".join(p.name[0] for p in staging.select(list(paths), context))

    return choose


CASES = [
    ({"kind": "min_size", "bytes": 2}, "ac"),
    ({"kind": "max_size", "bytes": 2}, "ba"),
    ({"kind": "min_age", "seconds": 150}, "ac"),
    ({"kind": "filename_match", "pattern": "[bc]"}, "bc"),
    ({"kind": "max_batch", "count": 2}, "ba"),
    ({"kind": "sort_by"}, "abc"),
    ({"kind": "sort_by", "reverse": True}, "cba"),
    ({"kind": "sort_by", "key": "size", "reverse": True}, "cab"),
    ({"kind": "sort_by", "key": "mtime"}, "cab"),
]


@pytest.mark.parametrize(("step", "chosen"), CASES)
def test_step_chooses_in_order(select, step, chosen):
    assert select(step) == chosen


@pytest.mark.parametrize(("staged", "chosen"), [(0, "ba"), (1, "b"), (2, ""), (9, "")])
def test_max_staged_counts_files_in_flight(select, staged, chosen):
    assert select({"kind": "max_staged", "count": 2}, staged=staged) == chosen


def test_steps_apply_one_after_the_other(select):
    order, most = {"kind": "sort_by"}, {"kind": "max_batch", "count": 2}
    assert select(order, most) == "ab"
    assert select(most, order) == "ab"
    assert select({"kind": "filename_match", "pattern": "[ac]"}, order, most) == "ac"


def test_companion_has_the_stem(select, paths):
    paths[1].with_suffix(".ok").touch()
    assert select({"kind": "companion_file", "ext": ".ok"}) == "a"


@pytest.mark.parametrize("kind", ["min_size", "max_size"])
def test_file_that_is_gone_is_left_out(select, paths, kind):
    paths[0].unlink()
    assert "b" not in select({"kind": kind, "bytes": 1})
    assert "b" not in select({"kind": "sort_by", "key": "size"})


def _write(tmp_path, monkeypatch, body):
    (tmp_path / "mine.py").write_text(f"def choose(paths, context):\n    {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


CALL = {"kind": "callable", "function": "mine:choose"}


def test_callable_chooses_and_knows_the_run(select, tmp_path, monkeypatch):
    _write(tmp_path, monkeypatch, "return paths[: context.staged][::-1]")
    assert select(CALL, staged=2) == "ab"


def test_callable_may_return_a_generator(select, tmp_path, monkeypatch):
    _write(tmp_path, monkeypatch, "return (path for path in paths[:2])")
    assert select(CALL) == "ba"


def test_generator_that_raises_is_named(select, tmp_path, monkeypatch):
    _write(tmp_path, monkeypatch, "yield paths[0]; raise ValueError('late')")
    with pytest.raises(StagingError, match="mine:choose raised ValueError: late"):
        select(CALL)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('x')", "raised ValueError: x"),
        ("raise SystemExit(0)", "raised SystemExit: 0"),
        ("return None", "returned None, not a list of paths"),
        ("return 'b.txt'", "returned 'b.txt', not a list"),
        ("return [str(p) for p in paths]", "which is not one of its candidates"),
        ("return [[]]", r"returned \[\], which is not one of its candidates"),
        ("return [paths[0].parent / 'z']", "which is not one of its candidates"),
        ("return paths + paths", "returned a file twice"),
        ("paths.clear(); return [1]", "returned 1, which is not one of its candidates"),
    ],
)
def test_callable_that_misbehaves_is_named(select, tmp_path, monkeypatch, body, reason):
    _write(tmp_path, monkeypatch, body)
    with pytest.raises(StagingError, match=f"mine:choose {reason}|{reason}"):
        select(CALL)


def test_callable_cannot_change_the_list_that_was_offered(
    select, tmp_path, monkeypatch
):
    _write(tmp_path, monkeypatch, "kept = paths[:]; paths.clear(); return kept")
    assert select(CALL) == "bac"


@pytest.mark.parametrize(
    ("function", "reason"),
    [("nowhere_at_all:f", "ModuleNotFoundError"), ("os:nothing", "AttributeError")],
)
def test_a_missing_function_is_named_at_load(function, reason):
    step = {"kind": "callable", "function": function}
    staging = Staging.model_validate({"steps": [step]})
    with pytest.raises(StagingError, match=f"{function} cannot be imported: {reason}"):
        staging.load(Path("/"))
