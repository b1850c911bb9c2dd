import errno
import json
import os
import stat
from pathlib import Path

import pytest

from tigerflow.files import (
    create_temporary,
    discard,
    listing_problem,
    process_is_alive,
    remove_abandoned_temporaries,
    remove_temporaries_of,
    sync_directory,
    sync_file,
    write_atomic,
    write_json,
)
from tigerflow.naming import TEMP_PREFIX, temporary_name


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def temporary_of(pid):
    return temporary_name("a.txt").replace(f"-{os.getpid()}-", f"-{pid}-")


#: No process has it: Linux ends at 2^22.
NO_PID = 2**22 + 1


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_temporary_file_is_new_empty_beside_its_target_and_follows_the_umask(
    tmp_path,
    umask,
    mode,
):
    before = os.umask(umask)
    try:
        path = create_temporary(tmp_path / "a.tar.gz")
    finally:
        os.umask(before)

    status = path.stat()
    assert path.parent == tmp_path
    assert path.suffixes == [".gz"]
    assert status.st_size == 0
    assert stat.S_IMODE(status.st_mode) == mode


def test_an_atomic_write_replaces_the_whole_file_and_leaves_no_other(weird_tmp_path):
    path = weird_tmp_path / "a.err"
    path.write_text("something longer than the new text")

    write_atomic(path, "new é")

    assert path.read_text(encoding="utf-8") == "new é"
    assert names(weird_tmp_path) == ["a.err"]


def test_an_atomic_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.err").mkdir()

    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "a.err", "text")

    assert names(tmp_path) == ["a.err"]


def test_json_holds_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / "a.err"

    write_json(path, {"file": "\udcff"})

    assert path.read_text() == '{\n  "file": "\\udcff"\n}\n'
    assert json.loads(path.read_text())["file"] == "\udcff"


@pytest.fixture
def synced(monkeypatch):
    """The names of the files and directories that are synced, as it happens."""
    names = []
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)

    def note(descriptor):
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    # There is no power cut to be had; what is asked of the kernel can be seen.
    monkeypatch.setattr(os, "fdatasync", note)
    monkeypatch.setattr(os, "fsync", note)
    return names


def test_a_file_and_a_directory_are_synced(tmp_path, synced):
    (tmp_path / "a.out").write_text("text")

    sync_file(tmp_path / "a.out")
    sync_directory(tmp_path)

    assert synced == ["a.out", tmp_path.name]


def test_nothing_is_synced_where_that_is_not_wanted(tmp_path, synced, monkeypatch):
    monkeypatch.setenv("TIGERFLOW_FSYNC", "0")
    (tmp_path / "a.out").write_text("text")

    sync_file(tmp_path / "a.out")
    sync_directory(tmp_path)

    assert synced == []


def test_only_files_with_content_are_synced(tmp_path, synced):
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")

    for name in ("empty", "link", "fifo", "not there"):
        sync_file(tmp_path / name)

    assert synced == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_file_system_without_sync_is_accepted(tmp_path, number, monkeypatch):
    (tmp_path / "a.out").write_text("text")

    def refuse(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", refuse)

    sync_file(tmp_path / "a.out")


def test_only_temporaries_of_processes_that_are_gone_are_abandoned(tmp_path):
    alive = temporary_of(1)
    for name in (alive, temporary_of(NO_PID), "a.txt"):
        (tmp_path / name).touch()

    remove_abandoned_temporaries(tmp_path)

    assert names(tmp_path) == sorted([alive, "a.txt"])


def test_a_predecessor_with_the_same_process_id_is_gone(tmp_path):
    (tmp_path / temporary_name("a.txt")).touch()

    remove_abandoned_temporaries(tmp_path)

    assert names(tmp_path) == []


def test_temporaries_of_another_host_are_abandoned_after_a_day(tmp_path):
    young, old = (f"{TEMP_PREFIX}ffffffff-1-{last:012}.txt" for last in (1, 2))
    for name in (young, old):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))

    remove_abandoned_temporaries(tmp_path)

    assert names(tmp_path) == [young]


def test_the_temporaries_of_one_process_are_removed_and_no_others(tmp_path):
    other = temporary_of(1)
    # What a task has left under names of its own making goes too.
    for name in (other, temporary_of(NO_PID), f"{temporary_of(NO_PID)}.npy"):
        (tmp_path / name).touch()
    (tmp_path / temporary_of(NO_PID)).with_suffix(".zarr").mkdir()

    remove_temporaries_of(tmp_path, NO_PID)

    assert names(tmp_path) == [other]


def test_a_temporary_that_a_task_made_a_directory_is_discarded(tmp_path):
    (tmp_path / "t" / "deep").mkdir(parents=True)

    discard(tmp_path / "t")
    discard(tmp_path / "not there")

    assert names(tmp_path) == []


def test_a_link_to_a_directory_is_discarded_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "t").symlink_to("data")

    discard(tmp_path / "t")

    assert names(tmp_path) == ["data"]


def test_this_process_is_alive_and_an_impossible_one_is_not():
    assert process_is_alive(os.getpid())
    assert process_is_alive(1)
    assert not process_is_alive(NO_PID)


def test_a_directory_that_may_be_listed_but_not_entered_cannot_be_read(as_nobody):
    with as_nobody(0o444) as directory:
        assert listing_problem(directory).errno == errno.EACCES
    with as_nobody(0o555) as directory:
        assert listing_problem(directory) is None
