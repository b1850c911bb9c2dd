import json
import os
import stat

import pytest

from tigerflow.files import (
    create_temporary,
    discard,
    process_is_alive,
    remove_abandoned_temporaries,
    remove_temporaries_of,
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
