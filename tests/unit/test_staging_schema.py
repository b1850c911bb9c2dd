"""The keys of staging steps."""

import pytest
from pydantic import ValidationError

from tigerflow.pipeline.staging import STEPS, Staging

EVERY_STEP = [
    {"kind": "min_size", "bytes": 1},
    {"kind": "max_size", "bytes": 10},
    {"kind": "min_age", "seconds": 0.5},
    {"kind": "filename_match", "pattern": r"^a.*\.txt$"},
    {"kind": "companion_file", "ext": ".done"},
    {"kind": "max_staged", "count": 5},
    {"kind": "max_batch", "count": 5},
    {"kind": "sort_by", "key": "mtime", "reverse": True},
    {"kind": "callable", "function": "my.module:choose"},
]


def test_every_kind_of_step_is_read_in_order():
    staging = Staging.model_validate({"steps": EVERY_STEP})

    assert [step.model_dump() for step in staging.steps] == EVERY_STEP
    assert list(STEPS) == [step["kind"] for step in EVERY_STEP]


def test_sort_by_has_defaults():
    step = Staging.model_validate({"steps": [{"kind": "sort_by"}]}).steps[0]

    assert step.model_dump() == {"kind": "sort_by", "key": "name", "reverse": False}


def test_steps_may_be_left_empty():
    assert Staging.model_validate({"steps": None}).steps == ()


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "min_size", "bytes": 0},
        {"kind": "min_age", "seconds": 0},
        {"kind": "max_batch", "count": -1},
        {"kind": "filename_match", "pattern": "("},
        {"kind": "companion_file", "ext": ".err"},
        {"kind": "companion_file", "ext": "done"},
        {"kind": "sort_by", "key": "colour"},
        {"kind": "callable", "function": "choose"},
        {"kind": "callable", "function": "module.choose"},
        {"kind": "min_size", "bytes": 1, "more": 2},
        {"bytes": 1},
        {"kind": "nothing"},
        "min_size",
    ],
)
def test_step_that_cannot_work_is_refused(step):
    with pytest.raises(ValidationError):
        Staging.model_validate({"steps": [step]})
