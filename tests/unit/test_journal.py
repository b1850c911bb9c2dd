"""The journal survives what happens to its file."""

import errno
import json
import os
from pathlib import Path

import pytest

from tigerflow.rundir import journal
from tigerflow.rundir.events import FileDone, FilesStaged, RunStopped
from tigerflow.rundir.journal import Journal, read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


class FullDisk:
    """A file that takes `room` bytes."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.file.write(data[: self.room])
        self.room -= taken
        return taken

    def close(self):
        self.file.close()


def test_events_are_read_in_order_with_their_time(path):
    with Journal(path) as journal:
        journal.append(FilesStaged(files=["a.txt", "\udcff.txt"]))
        journal.append(FileDone(file="a.txt"))
    first, second = read(path)
    assert (first.name, first.files) == ("staged", ["a.txt", "\udcff.txt"])
    assert second.at.endswith("+00:00")


def test_torn_last_line_is_dropped_and_the_next_event_is_whole(path):
    with Journal(path) as journal:
        journal.append(FilesStaged(files=[]))
    with path.open("a") as file:
        file.write('{"event": "file_do')
    assert [event.name for event in read(path)] == ["staged"]
    with Journal(path) as journal:
        journal.append(RunStopped(reason="x"))
    assert [event.name for event in read(path)] == ["staged", "run_stopped"]


@pytest.mark.parametrize("room", [0, 1, 40, 60])
def test_full_disk_loses_and_tears_nothing(path, room):
    with Journal(path) as journal:
        disk = FullDisk(journal._file, room)
        journal._file = disk
        journal.append(FilesStaged(files=["a"]))
        journal.append(FilesStaged(files=["b"]))
        assert journal.flush().errno == errno.ENOSPC
        disk.room = 10_000
        assert journal.flush() is None
    assert [event.files for event in read(path)] == [["a"], ["b"]]


def test_lines_that_are_not_events_are_skipped(path):
    path.write_text('1\n[]\n{"at": "x"}\nnonsense\n' + json.dumps({"event": "e"}))
    assert [event.event for event in read(path)] == ["e"]
    assert list(read(path.with_name("nowhere"))) == []


#: Lines that no TigerFlow has written, whoever did.
FORGED = {
    "nested deep": '{"event": "staged", "files": ' + "[" * 10**5 + "]" * 10**5 + "}",
    "a huge number": '{"event": "file_done", "file": "a", "size": ' + "9" * 5000 + "}",
    "a number out of range": '{"event": "file_done", "file": "a", "mtime_ns": 1e999}',
    "not a number": '{"event": "task_done", "task": "t", "file": "a", "seconds": NaN}',
    "a truth": '{"event": "task_done", "task": "t", "file": "a", "seconds": true}',
    "a name that is none": '{"event": "staged", "files": [["a"]], "signatures": [[1]]}',
    "a signature that is none": '{"event": "staged", "files": [], "signatures": [1]}',
    "versions that are none": '{"event": "run_started", "versions": ["x"]}',
    "a task that is none": '{"event": "task_stopped", "task": {}, "reason": "x"}',
    "a kind that is none": '{"event": {}, "at": 3}',
    "nothing": "\0" * 1000,
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_lines_are_left_out_and_handed_back(path, name):
    path.write_text(f'{{"event": "one"}}\n{FORGED[name]}\n{{"event": "two"}}\n')
    left_out = []
    assert [event.event for event in read(path, left_out.append)] == ["one", "two"]
    assert left_out == [FORGED[name] + "\n"]


def test_bytes_that_are_not_text_are_skipped(path):
    path.write_bytes(b'{"event": "\xff\xfe"}\n\xff\n{"event": "e"}\n')
    assert [event.event for event in read(path)][-1] == "e"


def test_long_lines_are_read_in_parts(path, monkeypatch):
    monkeypatch.setattr(journal, "LINE_LIMIT", 100)
    path.write_text("x" * 250 + '\n{"event": "e"}\n')
    left_out = []
    assert [event.event for event in read(path, left_out.append)] == ["e"]
    assert [len(part) for part in left_out] == [100, 100, 51]


def fifo(path):
    os.mkfifo(path)


def link(path):
    path.with_name("elsewhere").write_text('{"event": "e"}\n')
    path.symlink_to("elsewhere")


def device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("plant", [fifo, link, device, Path.mkdir])
def test_special_files_are_neither_read_nor_written(path, plant):
    plant(path)
    with pytest.raises(OSError, match=str(path)):
        list(read(path))
    with pytest.raises(OSError, match=str(path)), Journal(path):
        pass
