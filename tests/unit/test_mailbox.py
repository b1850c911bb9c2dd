"""Messages and signs of life in files."""

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from tigerflow.faults import end_on_faults
from tigerflow.rundir.layout import (
    MAILBOX_EXIT,
    MAILBOX_INBOX,
    MAILBOX_OUTBOX,
    MAILBOX_PULSE,
)
from tigerflow.settings import Settings
from tigerflow.workers.dispatch.mailbox_poller import MailboxPoller, PolledMailbox
from tigerflow.workers.mailbox import Receiver, Sender, make_mailbox
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    LeaveReason,
    Left,
    Ready,
    Started,
    Stop,
    encode,
)
from tigerflow.workers.pulse import Pulse, PulseWatch

FIRST = Answer(1, Fate.DONE)
SECOND = Answer(2, Fate.FAILED, "a.txt failed: ValueError: ü")


@pytest.fixture
def mailbox(tmp_path):
    path = tmp_path / "mailboxes" / "work" / "abc" / "0"
    make_mailbox(path)
    return path


def _send(path, *messages):
    sender = Sender(path)
    for message in messages:
        sender.post(message)
    sender.flush()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_mailbox_is_for_its_owner_alone_whatever_the_umask(tmp_path, mask):
    place = tmp_path / "mailboxes"
    before = os.umask(mask)
    try:
        make_mailbox(place / "speech" / "abc" / "0")
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in [place, *place.rglob("*")]
    }
    assert modes == {
        "mailboxes": 0o700,
        "mailboxes/speech": 0o700,
        "mailboxes/speech/abc": 0o700,
        "mailboxes/speech/abc/0": 0o700,
        "mailboxes/speech/abc/0/exit": 0o600,
        "mailboxes/speech/abc/0/inbox": 0o600,
        "mailboxes/speech/abc/0/outbox": 0o600,
        "mailboxes/speech/abc/0/log": 0o600,
        "mailboxes/speech/abc/0/pulse": 0o600,
    }


def test_messages_are_received_once_and_in_order(tmp_path):
    path = tmp_path / "box"
    receiver = Receiver(path)
    assert receiver.receive() == []
    _send(path, FIRST, SECOND)
    assert receiver.receive() == [FIRST, SECOND]
    assert receiver.receive() == []
    _send(path, Left(LeaveReason.WALL_TIME))
    assert receiver.receive() == [Left(LeaveReason.WALL_TIME)]


def test_half_a_message_waits_for_its_other_half(tmp_path):
    path = tmp_path / "box"
    receiver, line = Receiver(path), encode(SECOND)
    for cut in range(len(line)):
        path.write_bytes(encode(FIRST) + line[:cut])
        assert receiver.receive() == ([FIRST] if cut == 0 else [])
    path.write_bytes(encode(FIRST) + line)
    assert receiver.receive() == [SECOND]


class _Disk:
    """A file that takes only so much at a time, as a full disk does."""

    def __init__(self, path):
        self.path = path
        self.room = 0

    def open(self, *_mode, **_how):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def write(self, data):
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken, self.room = data[: self.room], max(0, self.room - len(data))
        with self.path.open("ab") as file:
            file.write(taken)
        return len(taken)


@pytest.mark.parametrize("room", [0, 1, 10, 60])
def test_what_a_full_disk_does_not_take_is_sent_later(tmp_path, room):
    disk = _Disk(tmp_path / "box")
    sender, receiver = Sender(disk), Receiver(disk.path)
    sender.post(FIRST)
    sender.post(SECOND)
    disk.room = room
    with pytest.raises(OSError, match="No space left"):
        sender.flush()
    disk.room = 10_000
    sender.flush()
    assert receiver.receive() == [FIRST, SECOND]


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"[]", b"{}", b"5", b'"text"', b"[" * 100_000),
        *(b'{"type": "Nothing"}', b'{"type": "Ready", "x": 1}', b'{"type": []}'),
    ],
    ids=range(9),
)
def test_line_that_is_not_a_message_does_not_hide_those_after_it(tmp_path, line):
    path = tmp_path / "box"
    path.write_bytes(encode(FIRST) + line + b"\n" + encode(SECOND))
    assert Receiver(path).receive() == [FIRST, SECOND]


def test_pulse_stands_still_between_beats(tmp_path):
    now = 100.0
    pulse = Pulse(tmp_path / "pulse")
    watch = PulseWatch(tmp_path / "pulse", clock=lambda: now)
    now += 5
    assert watch.still_s() == 5
    pulse.beat()
    assert watch.still_s() == 0
    now += 7
    assert watch.still_s() == 7
    pulse.beat()
    assert watch.still_s() == 0


def test_look_that_comes_late_counts_for_a_beat(tmp_path):
    now = 0.0
    Pulse(tmp_path / "pulse").beat()
    watch = PulseWatch(tmp_path / "pulse", 60, clock=lambda: now)
    assert watch.still_s() == 0
    now += 3600
    assert watch.still_s() == 15
    now += 5
    assert watch.still_s() == 20


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_pulse_that_cannot_be_read_says_nothing_of_its_owner(
    tmp_path, monkeypatch, number
):
    now = 0.0
    Pulse(tmp_path / "pulse").beat()
    watch = PulseWatch(tmp_path / "pulse", 60, clock=lambda: now)
    watch.still_s()
    now += 10

    def fail(_path):
        raise OSError(number, "the file server")

    # What a file server says cannot be had from a disk.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        for _ in range(9):
            assert watch.still_s() == 0
            now += 10
    assert watch.still_s() == 10


def test_pulse_that_is_gone_stands_still(tmp_path):
    now = 0.0
    watch = PulseWatch(tmp_path / "pulse", 60, clock=lambda: now)
    now += 10
    assert watch.still_s() == 10


def test_pulse_of_a_successor_is_another(tmp_path):
    now = 0.0
    watch = PulseWatch(tmp_path / "pulse", clock=lambda: now)
    for _ in range(2):
        Pulse(tmp_path / "pulse").beat()
        now += 1
        assert watch.still_s() == 0


def test_beat_takes_no_room_that_the_one_before_did_not_take(tmp_path):
    path = tmp_path / "pulse"
    pulse = Pulse(path)
    pulse.beat()
    before = path.stat()
    pulse.beat()
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_size == before.st_size


def test_look_into_a_mailbox_sends_and_receives(mailbox):
    polled = PolledMailbox(mailbox, print)
    request = FileRequest(1, "a.txt", "work/a.out", "work/a.err")
    polled.post(request)
    polled.post(Stop())
    _send(mailbox / MAILBOX_OUTBOX, Ready(), FIRST)
    delivery = polled.exchange()
    assert Receiver(mailbox / MAILBOX_INBOX).receive() == [request, Stop()]
    assert delivery.messages == [Ready(), FIRST]
    assert delivery.exit_code is None


def test_look_without_news_returns_nothing(mailbox):
    polled = PolledMailbox(mailbox, print)
    assert polled.exchange() is not None
    assert polled.exchange() is None
    _send(mailbox / MAILBOX_OUTBOX, FIRST)
    assert polled.exchange().messages == [FIRST]


@pytest.mark.parametrize("code", [0, 3, -9])
def test_look_after_the_end_returns_the_last_messages_too(mailbox, code):
    polled = PolledMailbox(mailbox, print)
    _send(mailbox / MAILBOX_OUTBOX, FIRST)
    (mailbox / MAILBOX_EXIT).write_text(str(code))
    delivery = polled.exchange()
    assert delivery.messages == [FIRST]
    assert delivery.exit_code == code


def test_look_shows_that_a_worker_lives(mailbox):
    polled = PolledMailbox(mailbox, print)
    Pulse(mailbox / MAILBOX_PULSE).beat()
    assert polled.exchange().still_s == 0


def test_pulse_counts_from_the_start_of_a_worker_however_long_its_job_waited(mailbox):
    polled = PolledMailbox(mailbox, print)
    polled.exchange()
    polled._watch._stillness._still_s += 1000
    _send(mailbox / MAILBOX_OUTBOX, FIRST)
    assert polled.exchange().still_s > 900
    _send(mailbox / MAILBOX_OUTBOX, Started("n1", 1, "1", None))
    assert polled.exchange().still_s < 900


def test_what_was_posted_is_sent_after_polling_has_stopped(mailbox):
    async def post():
        settings = Settings(mailbox_poll_ms=10)
        poller = MailboxPoller.for_run(mailbox.parents[3], settings)
        polled = PolledMailbox(mailbox, print)
        poller.add(polled)
        polled.post(Stop())
        poller.remove(polled)
        await asyncio.to_thread(poller.close)

    asyncio.run(post())
    assert Receiver(mailbox / MAILBOX_INBOX).receive() == [Stop()]


def test_poller_that_dies_reports_to_its_mailboxes_and_to_later_ones(mailbox):
    def die():
        raise KeyError(0)

    async def wait():
        faults, came, late = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        end_on_faults(faults.put_nowait)
        poller = MailboxPoller.for_run(mailbox.parents[3], Settings(mailbox_poll_ms=10))
        poller.add(PolledMailbox(mailbox, came.put_nowait, is_urgent=die))
        fault = await faults.get()
        assert isinstance(fault, KeyError)
        assert (await came.get()).fault is fault
        poller.add(PolledMailbox(mailbox, late.put_nowait))
        assert (await late.get()).fault is fault
        await asyncio.to_thread(poller.close)

    asyncio.run(asyncio.wait_for(wait(), 120))


def test_look_into_a_removed_mailbox_returns_nothing(tmp_path):
    polled = PolledMailbox(tmp_path / "gone", print)
    polled.post(Stop())
    delivery = polled.exchange()
    assert delivery.messages == []
    assert delivery.exit_code is None
