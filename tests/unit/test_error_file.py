"""What is read of an `.err`, whoever wrote it."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from tigerflow.tasks import error_file
from tigerflow.tasks.error_file import ErrorRecord, read_error, write_error
from tigerflow.tasks.file_job import FileJob

EMPTY = ErrorRecord(**{each.name: "" for each in fields(ErrorRecord)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.err"


def test_an_error_is_read_as_it_was_written(tmp_path):
    (tmp_path / "a.txt").touch()
    job = FileJob(Path("a.txt"), Path("a.out"), Path("a.err"))
    record = ErrorRecord.from_exception("work", "a.txt", ValueError("no"), "printed")

    write_error(job, record, tmp_path)

    assert read_error(tmp_path / "a.err") == replace(record, output="a.out")


@pytest.mark.parametrize("text", ["1", "[]", "", '{"a": ', "[" * 10**6])
def test_text_that_is_no_record_is_read_as_the_message(path, text):
    path.write_text(text)

    assert read_error(path) == replace(EMPTY, message=text)


def test_a_missing_error_is_read_as_an_empty_one(path):
    assert read_error(path) == EMPTY


def test_an_error_that_cannot_be_read_says_why(path):
    path.mkdir()

    assert read_error(path) == replace(
        EMPTY, message="it cannot be read: Is a directory"
    )


def test_what_an_error_lacks_is_empty_and_what_it_has_beside_is_left_out(path):
    path.write_text(json.dumps({"task": "work", "message": "no", "file": 7, "x": "y"}))

    assert asdict(read_error(path)) == asdict(replace(EMPTY, task="work", message="no"))


def test_an_error_that_is_too_long_is_not_taken_for_a_record(path, monkeypatch):
    monkeypatch.setattr(error_file, "ERROR_LIMIT", 20)
    path.write_text(json.dumps({"message": "x" * 30}))

    assert read_error(path) == replace(EMPTY, message='{"message": "xxxxxxx')
