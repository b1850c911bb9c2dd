"""What a run leaves beside its temporary output is noticed without a listing."""

import os
from pathlib import Path

import pytest

from tigerflow.files import create_temporary
from tigerflow.tasks import strays as module
from tigerflow.tasks.strays import Strays


@pytest.fixture
def strays():
    with Strays() as strays:
        yield strays


@pytest.fixture
def output(weird_tmp_path):
    return weird_tmp_path / "a.b.tar.gz"


@pytest.fixture
def temporary(strays, output):
    temporary = create_temporary(output, ".tar.gz")
    strays.expect(temporary, output)
    return temporary


@pytest.fixture
def no_events(monkeypatch):
    """Have the kernel refuse to watch, as at the limit of a user's watches."""

    def refuse():
        raise OSError

    monkeypatch.setattr(module, "_NewNames", refuse)


def with_suffix(path, suffix):
    return path.with_name(path.name + suffix)


def test_a_run_that_writes_to_its_temporary_alone_leaves_nothing(strays, temporary):
    temporary.write_text("text")

    assert strays.left_by(temporary) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: with_suffix(path, ".npy"),
        lambda path: with_suffix(path, "~"),
        lambda path: path.with_suffix(".srt"),
        lambda path: path.with_name(f"tmp_{path.name}"),
        lambda path: path.with_suffix("").with_suffix(""),
    ],
)
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda p: p.symlink_to("x")])
def test_a_file_with_a_name_like_the_temporary_is_a_stray(
    strays, temporary, change, make
):
    make(change(temporary))

    assert strays.left_by(temporary) == [change(temporary)]


def test_a_file_that_is_moved_to_such_a_name_is_a_stray(strays, temporary):
    elsewhere = temporary.with_name("elsewhere")
    elsewhere.touch()
    elsewhere.rename(with_suffix(temporary, ".part"))

    assert strays.left_by(temporary) == [with_suffix(temporary, ".part")]


def test_the_output_itself_is_a_stray_before_the_run_is_over(strays, temporary, output):
    output.write_text("too early")

    assert strays.left_by(temporary) == [output]


def test_an_output_of_another_worker_is_no_stray(strays, temporary, output):
    other = create_temporary(output, ".tar.gz")
    other.replace(output)

    assert strays.left_by(temporary) == []


def test_removed_file_does_not_count_as_stray(strays, temporary):
    part = with_suffix(temporary, ".part")
    part.write_text("text")
    part.replace(temporary)

    assert strays.left_by(temporary) == []


def test_other_files_do_not_count_as_strays(strays, temporary, output):
    other = create_temporary(output, ".tar.gz")
    with_suffix(other, ".npy").touch()
    output.with_name("words.duckdb").touch()

    assert strays.left_by(temporary) == []


def test_strays_of_several_runs_are_kept_apart(strays, temporary, output):
    other = create_temporary(output.with_name("other.gz"), ".gz")
    strays.expect(other, output.with_name("other.gz"))
    for path in (other, temporary):
        with_suffix(path, ".npy").touch()

    assert strays.left_by(other) == [with_suffix(other, ".npy")]
    assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]


def test_strays_in_a_directory_that_was_replaced_are_noticed(strays, output):
    place = output.with_name("place")
    for _ in range(2):
        place.mkdir()
        temporary = create_temporary(place / "a.gz", ".gz")
        strays.expect(temporary, place / "a.gz")
        place.rename(place.with_name(f"before-{temporary.name}"))
    place.mkdir()
    temporary = create_temporary(place / "a.gz", ".gz")
    strays.expect(temporary, place / "a.gz")
    with_suffix(temporary, ".npy").touch()

    assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]


@pytest.mark.usefixtures("no_events")
def test_a_stray_in_place_of_an_output_is_noticed_without_events(strays, temporary):
    with_suffix(temporary, ".npy").touch()

    assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]


@pytest.mark.usefixtures("no_events")
def test_a_stray_beside_an_output_is_left_without_events(strays, temporary):
    with_suffix(temporary, ".npy").touch()
    temporary.write_text("text")

    assert strays.left_by(temporary) == []


def test_a_task_that_closes_all_descriptors_hides_no_stray(output):
    with Strays() as strays:
        temporary = create_temporary(output, ".gz")
        strays.expect(temporary, output)
        os.close(strays._new_names._descriptor)
        with_suffix(temporary, ".npy").touch()

        assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]


def test_a_file_that_takes_the_number_of_a_closed_descriptor_is_left_alone(output):
    with Strays() as strays:
        temporary = create_temporary(output, ".gz")
        strays.expect(temporary, output)
        descriptor = strays._new_names._descriptor
        tasks = output.with_name("input")
        tasks.write_text("text of the task")
        with tasks.open("rb", buffering=0) as file:
            os.dup2(file.fileno(), descriptor)
        with_suffix(temporary, ".npy").touch()

        assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]

    with os.fdopen(descriptor, "rb") as file:
        assert file.read() == b"text of the task"


def test_a_stray_is_noticed_when_more_names_appear_than_the_kernel_keeps(
    strays, temporary, output
):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("this machine keeps too many events to have more")
    for number in range(limit + 1):
        other = output.with_name(str(number))
        os.link(temporary, other)
        other.unlink()
    with_suffix(temporary, ".npy").touch()

    assert strays.left_by(temporary) == [with_suffix(temporary, ".npy")]
