"""The messages between a pool and its workers."""

import os
from dataclasses import FrozenInstanceError

import pytest

from tigerflow.tasks.worker_task import WorkerTask
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    Ready,
    SetupFailed,
    TeardownFailed,
    decode,
    encode,
)

TASK = WorkerTask(
    name="work",
    module="/a/b.py:Work",
    directory="/a",
    params={"size": "3", "names": ["a", "b"]},
    setup_commands=["module load x"],
    output_ext=".out",
    workers=2,
    concurrency_limit=1,
    threads=4,
    container=["--bind", "/a", "image.sif"],
)


@pytest.mark.parametrize(
    "message",
    [
        TASK,
        FileRequest(1, "in/a.txt", "work/a.out", "work/a.err"),
        Ready(),
        SetupFailed("ValueError: no"),
        Answer(7, Fate.DONE),
        Answer(8, Fate.FAILED, "a.txt failed: ValueError: ü"),
        Answer(9, Fate.UNDONE, "disk full"),
        TeardownFailed("OSError: gone"),
    ],
)
def test_message_survives_the_way(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "name",
    ["new\nline", "car\rriage", "nul\0", "\u2028", "文件", os.fsdecode(b"\xff\xfe")],
)
def test_message_is_one_ascii_line_whatever_it_holds(name):
    line = encode(FileRequest(1, name, name, name))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.splitlines() == [line.rstrip(b"\n")]
    assert decode(line) == FileRequest(1, name, name, name)


def test_fate_comes_back_as_a_fate():
    answer = decode(encode(Answer(1, Fate.UNDONE)))
    assert isinstance(answer, Answer)
    assert answer.fate is Fate.UNDONE


def test_message_of_an_unknown_type_is_refused():
    with pytest.raises(KeyError):
        decode(b'{"type": "Nonsense"}\n')


def test_messages_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TASK.workers = 3  # type: ignore[misc] # that is the question
