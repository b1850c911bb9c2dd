"""What a task by itself notes of its inputs."""

import errno
import fcntl
import io
import os
import threading
from pathlib import Path

import pytest
from runs import wait_until

from tigerflow.rundir import signatures as module
from tigerflow.rundir.signatures import Signatures, _locked


@pytest.fixture
def path(weird_tmp_path):
    return weird_tmp_path / ".tigerflow" / "inputs.out.jsonl"


def test_last_entry_of_a_name_is_found_again(path):
    first = Signatures(path)
    first.put({"a": (1, 2), "\udcff \n": (3, 4)})
    first.put({"a": (5, 6)})

    again = Signatures(path)

    assert again.get("a") == first.get("a") == (5, 6)
    assert again.get("\udcff \n") == (3, 4)
    assert again.get("b") is None


def test_entry_that_is_known_is_not_written_again(path):
    Signatures(path).put({"a": (1, 2)})
    size = path.stat().st_size

    Signatures(path).put({"a": (1, 2)})

    assert path.stat().st_size == size


def test_torn_line_and_lines_of_others_are_left_out(path):
    Signatures(path).put({"a": (1, 2)})
    with path.open("a") as file:
        file.write('[]\n["b", 1]\n\xff\n{}\n["c", 1')

    after = Signatures(path)
    after.put({"d": (3, 4)})

    again = Signatures(path)
    assert [again.get(name) for name in "abcd"] == [(1, 2), None, None, (3, 4)]


def test_file_with_mostly_outdated_lines_is_rewritten(path, monkeypatch):
    monkeypatch.setattr(module, "FEW_LINES", 2)
    for number in range(5):
        Signatures(path).put({"a": (1, number)})

    again = Signatures(path)

    assert again.get("a") == (1, 4)
    assert path.read_text() == '["a", 1, 4]\n'
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_program_that_waits_while_another_rewrites_loses_nothing(path):
    Signatures(path).put({"a": (1, 2)})
    writer = Signatures(path)
    assert writer.get("a") == (1, 2)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=writer.put, args=({"b": (3, 4)},))
        thread.start()
        wait_until(lambda: str(path.stat().st_ino) in waiting_locks())
        new = path.with_name("new")
        new.write_text('["a", 1, 2]\n')
        new.replace(path)
    thread.join()

    assert Signatures(path).get("b") == (3, 4)


def waiting_locks():
    lines = Path("/proc/locks").read_text().splitlines()
    return "".join(line for line in lines if "->" in line)


def test_unwritable_directory_is_not_a_failure_of_the_file(path):
    path.parent.write_text("a file")
    entries = Signatures(path)

    entries.put({"a": (1, 2)})
    entries.put({"b": (1, 2)})

    assert entries.get("a") == (1, 2)


def test_line_that_a_full_disk_takes_in_part_is_written_again(path, monkeypatch):
    entries = Signatures(path)
    entries.put({"a": (1, 2)})
    parts = iter([3, 5])

    class FullDisk(io.FileIO):
        def write(self, text):
            part = next(parts, None)
            if part is None:
                raise OSError(errno.ENOSPC, "full")
            return super().write(text[:part])

    with monkeypatch.context() as patch:
        patch.setattr(
            module, "open", lambda *_, **__: FullDisk(path, "a+"), raising=False
        )
        entries.put({"b": (3, 4)})
    entries.put({"c": (5, 6)})

    again = Signatures(path)
    assert [again.get(name) for name in "abc"] == [(1, 2), (3, 4), (5, 6)]


def test_fifo_in_the_place_of_the_file_is_neither_waited_for_nor_read(path):
    path.parent.mkdir()
    os.mkfifo(path)
    entries = Signatures(path)

    entries.put({"a": (1, 2)})

    assert entries.get("a") == (1, 2)


def test_child_forked_while_the_file_is_locked_blocks_no_one(path):
    with _locked(path, fcntl.LOCK_EX) as file:
        childs = os.dup(file.fileno())

    try:
        with path.open("rb") as others:
            fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(childs)
