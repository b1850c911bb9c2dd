"""The journal survives what happens to its file."""

import errno
import json

import pytest

from tigerflow.journal import Journal, read


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
        journal.append("staged", files=["a.txt", "\udcff.txt"])
        journal.append("file_done", file="a.txt")
    first, second = read(path)
    assert (first["event"], first["files"]) == ("staged", ["a.txt", "\udcff.txt"])
    assert second["at"].endswith("+00:00")


def test_torn_last_line_is_dropped_and_the_next_event_is_whole(path):
    with Journal(path) as journal:
        journal.append("staged", files=[])
    with path.open("a") as file:
        file.write('{"event": "file_do')
    assert [event["event"] for event in read(path)] == ["staged"]
    with Journal(path) as journal:
        journal.append("run_stopped", reason="x")
    assert [event["event"] for event in read(path)] == ["staged", "run_stopped"]


@pytest.mark.parametrize("room", [0, 1, 40, 60])
def test_full_disk_loses_and_tears_nothing(path, room):
    with Journal(path) as journal:
        disk = FullDisk(journal._file, room)
        journal._file = disk
        journal.append("staged", files=["a"])
        journal.append("staged", files=["b"])
        assert journal.flush().errno == errno.ENOSPC
        disk.room = 10_000
        assert journal.flush() is None
    assert [event["files"] for event in read(path)] == [["a"], ["b"]]


def test_what_is_no_event_is_left_out(path):
    path.write_text('1\n[]\n{"at": "x"}\nnonsense\n' + json.dumps({"event": "e"}))
    assert [event["event"] for event in read(path)] == ["e"]
    assert list(read(path.with_name("nowhere"))) == []
