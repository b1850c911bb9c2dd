import dataclasses
import os

import pytest

from tigerflow.errors import (
    DirectoryClashError,
    DirectoryMissingError,
    NameRuleError,
    OutputDirectoryError,
)
from tigerflow.service.directories import Directories
from tigerflow.service.task_directory import DirectorySource
from tigerflow.tasks.execution import Batch
from tigerflow.tasks.strays import Strays


@pytest.fixture
def directories(weird_tmp_path):
    (weird_tmp_path / "in").mkdir()
    (weird_tmp_path / "out").mkdir()
    return Directories(weird_tmp_path / "in", ".txt", weird_tmp_path / "out", ".out")


def make_source(directories):
    return DirectorySource(
        directories, 1, 30, task="embed", once=True, progress=lambda _text: None
    )


@pytest.fixture
def source(directories):
    source = make_source(directories)
    with source.inbox:
        yield source


def give(directories, *names):
    for name in names:
        (directories.input_dir / name).write_text("text")


def succeed(_job, _output):
    """Write nothing."""


def fail(_job, _output):
    raise ValueError


def process(source, job, run=succeed):
    with Strays() as strays:
        batch = Batch("embed", [job], strays)
        with batch.attempt() as [(_input, output)]:
            run(job, output)
    source.finished(job, batch.settled[0])


def process_all(source, run=succeed):
    """Do what a server does, and return the names of the files it was given."""
    names = []
    while (job := source.next()) is not None:
        names.append(job.input.name)
        process(source, job, run)
    return names


def test_a_job_has_the_output_and_the_error_of_its_stem(directories):
    job = directories.job("a.b.txt")

    assert job.input == directories.input_dir / "a.b.txt"
    assert job.output == directories.output_dir / "a.b.out"
    assert job.error == directories.output_dir / "a.b.err"


def test_existing_files_are_offered_once_in_name_order(directories):
    # Those that arrive while it watches come in the order in which they are closed.
    give(directories, "b.txt", "a.txt", "c.dat")
    source = make_source(directories)

    with source.inbox:
        assert process_all(source) == ["a.txt", "b.txt"]
    assert (source.succeeded, source.failed) == (2, 0)


def test_a_file_with_an_output_or_an_error_that_is_newer_is_done(source, directories):
    give(directories, "done.txt", "failed.txt", "new.txt")
    (directories.output_dir / "done.out").touch()
    (directories.output_dir / "failed.err").touch()

    assert process_all(source) == ["new.txt"]


def test_a_file_that_is_newer_than_its_result_is_undone(source, directories):
    give(directories, "a.txt")
    result = directories.output_dir / "a.out"
    result.touch()
    os.utime(result, (1, 1))

    assert process_all(source) == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "is_done"),
    [
        ('{"task": "embed", "output": "a.out"}', True),
        ('{"task": "embed"}', True),
        ("Traceback (most recent call last):", True),
        ("", True),
        ('{"task": "ingest"}', False),
        ('{"task": "ingest", "output": "a.out"}', False),
        ('{"task": "embed", "output": "a.other"}', False),
    ],
)
def test_only_the_error_of_this_task_keeps_it_from_a_file(directories, error, is_done):
    give(directories, "a.txt")
    (directories.output_dir / "a.err").write_text(error)

    with (source := make_source(directories)).inbox:
        assert process_all(source) == ([] if is_done else ["a.txt"])
    assert source.failed_earlier == is_done


def test_a_failed_file_is_left_alone_when_another_task_fails_on_it_too(
    source, directories
):
    give(directories, "a.txt")
    process_all(source, fail)
    (directories.output_dir / "a.err").write_text('{"task": "ingest"}')
    source.inbox.scan_now()

    assert process_all(source) == []


def replace(directories, text, date_s):
    """Replace an input as `rsync -t` does."""
    path = directories.input_dir / "a.part"
    path.write_text(text)
    os.utime(path, (date_s, date_s))
    path.replace(directories.input_dir / "a.txt")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("date_s", [10**9 - 1, 10**9 + 1])
def test_a_version_that_is_older_than_the_result_of_another_is_undone(
    directories, fails, date_s
):
    replace(directories, "one", 10**9)
    run = fail if fails else succeed
    with (first := make_source(directories)).inbox:
        process_all(first, run)
    with (second := make_source(directories)).inbox:
        assert process_all(second, run) == []

    replace(directories, "two", date_s)

    with (third := make_source(directories)).inbox:
        assert process_all(third) == ["a.txt"]
    with (last := make_source(directories)).inbox:
        assert process_all(last) == []


def test_a_version_is_noticed_that_replaces_one_done_by_an_earlier_release(directories):
    replace(directories, "one", 10**9)
    # Which has noted nothing.
    (directories.output_dir / "a.out").touch()
    with (first := make_source(directories)).inbox:
        assert process_all(first) == []

    replace(directories, "two", 10**9 + 1)

    with (second := make_source(directories)).inbox:
        assert process_all(second) == ["a.txt"]


def test_a_version_that_was_taken_and_never_finished_is_undone(directories):
    replace(directories, "one", 10**9)
    with (first := make_source(directories)).inbox:
        process_all(first)
    replace(directories, "two", 10**9 + 1)
    with (killed := make_source(directories)).inbox:
        assert killed.next().input.name == "a.txt"

    with (second := make_source(directories)).inbox:
        assert process_all(second) == ["a.txt"]


def test_a_result_of_a_colleague_does_not_pass_for_one_of_a_new_version(
    directories, monkeypatch
):
    replace(directories, "one", 10**9)
    with (first := make_source(directories)).inbox:
        process_all(first)
    replace(directories, "two", 10**9 + 1)

    def refuse(*_args, **_times):
        raise PermissionError

    # As root, every file may be dated.
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", refuse)
        with (killed := make_source(directories)).inbox:
            assert killed.next().input.name == "a.txt"

    with (second := make_source(directories)).inbox:
        assert process_all(second) == ["a.txt"]


def test_a_version_that_replaces_another_meanwhile_is_offered(source, directories):
    replace(directories, "one", 10**9)
    job = source.next()
    process(source, job, lambda *_: replace(directories, "two", 10**9 - 1))

    assert process_all(source) == ["a.txt"]


def test_programs_whose_outputs_differ_note_their_inputs_apart(directories):
    replace(directories, "one", 10**9)
    other = dataclasses.replace(directories, output_ext=".other")
    for each in (directories, other):
        with (source := make_source(each)).inbox:
            process_all(source)
    replace(directories, "two", 10**9 + 1)

    for each in (directories, other):
        with (source := make_source(each)).inbox:
            assert process_all(source) == ["a.txt"]


def test_directory_named_like_a_result_does_not_count_as_one(source, directories):
    give(directories, "a.txt")
    (directories.output_dir / "a.out").mkdir()

    assert process_all(source) == ["a.txt"]


def test_failures_are_counted(source, directories):
    give(directories, "a.txt")

    process_all(source, fail)

    assert (source.succeeded, source.failed) == (0, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_a_result_of_an_earlier_content_is_older_than_the_new_one(
    source,
    directories,
    fails,
):
    give(directories, "a.txt")

    def run(job, _output):
        job.input.write_text("a new text")
        if fails:
            raise ValueError

    job = source.next()
    process(source, job, run)

    result = job.error if fails else job.output
    assert result.stat().st_mtime_ns < job.input.stat().st_mtime_ns


def test_a_file_that_went_while_it_waited_is_left_out(source, directories):
    give(directories, "a.txt", "b.txt", "c.txt")

    process(source, source.next())
    (directories.input_dir / "b.txt").unlink()

    assert process_all(source) == ["c.txt"]


def test_no_file_is_offered_after_a_stop(source, directories):
    give(directories, "a.txt", "b.txt")
    told = []
    source.on_stop(lambda: told.append("now"))
    process(source, source.next())

    source.stop()

    assert source.next() is None
    assert told == ["now"]
    assert source.patience_s() == 30


def test_waiters_that_register_after_stop_are_notified_immediately(source):
    told = []
    source.stop()

    source.on_stop(lambda: told.append("now"))

    assert told == ["now"]


def test_broken_storage_stops_the_source_and_the_file_stays_undone(source, directories):
    give(directories, "a.txt", "b.txt")
    job = source.next()
    error = OutputDirectoryError(directories.output_dir, OSError(28, "No space left"))

    source.broken(job, error)

    assert source.error is error
    assert source.next() is None


def test_files_without_a_stop_have_all_the_time_they_need(source):
    assert source.patience_s() is None


@pytest.mark.parametrize("field", ["input_dir", "output_dir"])
def test_a_missing_directory_is_named_with_its_option(directories, field):
    path = getattr(directories, field)
    path.rmdir()

    with pytest.raises(DirectoryMissingError) as error:
        directories.check()

    option = f"--{field.replace('_', '-')}"
    assert str(error.value) == f"{option} {str(path)!r} does not exist"


def test_extensions_are_checked_before_directories(tmp_path):
    nowhere = tmp_path / "nowhere"

    with pytest.raises(NameRuleError):
        Directories(nowhere, "txt", nowhere, ".out").check()


@pytest.mark.parametrize(("output_ext", "clash"), [(".txt", True), (".out", False)])
def test_one_directory_may_hold_inputs_and_outputs_with_different_extensions(
    tmp_path,
    output_ext,
    clash,
):
    (tmp_path / "link").symlink_to(tmp_path)
    directories = Directories(tmp_path, ".txt", tmp_path / "link", output_ext)

    if not clash:
        directories.check()
        return
    with pytest.raises(DirectoryClashError):
        directories.check()


def test_batch_holds_existing_files_that_still_exist(directories):
    give(directories, *(f"{number}.txt" for number in range(5)))
    source = make_source(directories)
    with source.inbox:
        first = source.batch(2)
        (directories.input_dir / "2.txt").unlink()
        second = source.batch(10)

        assert [job.input.stem for job in first] == ["0", "1"]
        assert [job.input.stem for job in second] == ["3", "4"]
        for job in (*first, *second):
            process(source, job)
        assert source.batch(10) == []


def test_no_batch_comes_after_a_stop(directories):
    give(directories, "a.txt", "b.txt")
    source = make_source(directories)
    with source.inbox:
        assert len(source.batch(1)) == 1
        source.stop()

        assert source.batch(1) == []
