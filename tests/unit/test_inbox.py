import os
import queue
import threading
import time
from pathlib import Path

import pytest

from tigerflow.log import logger
from tigerflow.naming import temporary_name
from tigerflow.rundir.signatures import signature_of
from tigerflow.service import inbox as inbox_module
from tigerflow.service import mounts as mounts_module
from tigerflow.service.inbox import Inbox

DEADLINE_S = 60

#: So long that only an event, not a scan, can make a test pass in time.
NEVER_S = 3600

#: So short that a scan finds a change soon.
SOON_S = 0.02


@pytest.fixture
def directory(weird_tmp_path):
    return weird_tmp_path


@pytest.fixture
def scans_only(tmp_path, directory, monkeypatch):
    """A list of mounts that says the directory is on NFS, where no events come."""
    # What has been written just now is left alone for longer; most tests need not wait.
    monkeypatch.setattr(mounts_module, "ACREGMIN_S", inbox_module.SETTLE_S / 2)
    monkeypatch.setattr(inbox_module, "REMOTE_S", inbox_module.SETTLE_S / 2)
    point = str(directory).replace(" ", "\\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/a {point} nfs4 rw 0 0\n")
    return mounts


class Batches:
    """What an inbox gives, collected by a thread; nothing is offered twice."""

    def __init__(self, directory, poll_s, **options):
        self.taken = {}
        self._changed = threading.Condition()
        self.inbox = Inbox(directory, ".txt", self._wanted, poll_s, **options)
        self._thread = threading.Thread(target=self._collect)

    def _wanted(self, arrivals):
        return [a for a in arrivals if self.taken.get(a.name) != a.signature]

    def _collect(self):
        while (batch := self.inbox.batch()) is not None:
            with self._changed:
                self.taken.update((a.name, a.signature) for a in batch)
                self._changed.notify_all()

    def __enter__(self):
        self.inbox.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.inbox.__exit__(None, None, None)
        self._thread.join(DEADLINE_S)

    def wait_for(self, path):
        """Wait until the file is taken as it is now."""
        signature = signature_of(path.stat())
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.taken.get(path.name) == signature,
                DEADLINE_S,
            )

    def wait_for_look_at(self, name):
        waited = threading.Event()
        for _ in range(DEADLINE_S * 100):
            if name in self.inbox._looks:
                return
            waited.wait(0.01)
        pytest.fail(f"{name} was never looked at")


def everything(arrivals):
    return arrivals


def names(batch):
    return [arrival.name for arrival in batch]


def what_is_there(directory, **options):
    """Return the names of what an inbox that does not wait gives."""
    with Inbox(directory, ".txt", everything, SOON_S, **options) as inbox:
        return names(inbox.batch(wait=False))


def test_existing_files_arrive_in_name_order(directory):
    for name in ("b.txt", "a.txt", "c d.txt"):
        (directory / name).touch()

    assert what_is_there(directory) == ["a.txt", "b.txt", "c d.txt"]


def test_an_empty_directory_gives_an_empty_batch_at_once(directory):
    assert what_is_there(directory) == []


def test_only_regular_files_and_links_to_them_are_inputs(directory):
    (directory / "file.txt").touch()
    (directory / "link.txt").symlink_to("file.txt")
    (directory / "folder.txt").mkdir()
    (directory / "folder.txt" / "deep.txt").touch()
    (directory / "dangling.txt").symlink_to("nowhere")
    (directory / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(directory / "fifo.txt")

    assert what_is_there(directory) == ["file.txt", "link.txt"]


def test_names_are_matched_by_their_end_and_temporary_ones_left_out(directory):
    for name in (
        ".txt",
        ".hidden.txt",
        "a.tar.txt",
        "new\nline.txt",
        "\udcff.txt",
        "x" * 251 + ".txt",
        "b.TXT",
        "c.txt.part",
        "._apple.txt",
        temporary_name("d.txt"),
    ):
        (directory / name).touch()

    assert what_is_there(directory) == sorted(
        [
            ".txt",
            ".hidden.txt",
            "a.tar.txt",
            "new\nline.txt",
            "\udcff.txt",
            "x" * 251 + ".txt",
        ],
    )


def test_a_file_that_its_writer_closes_arrives_by_its_event(directory):
    with Batches(directory, NEVER_S) as batches:
        (directory / "first.txt").write_text("text")
        batches.wait_for(directory / "first.txt")
        (directory / "second.txt").write_text("text")
        batches.wait_for(directory / "second.txt")


def test_a_file_that_is_moved_in_arrives_by_its_event(directory, tmp_path):
    source = tmp_path / "outside"
    source.write_text("text")
    part = directory / "b.txt.part"
    part.write_text("text")

    with Batches(directory, NEVER_S) as batches:
        source.rename(directory / "a.txt")
        batches.wait_for(directory / "a.txt")
        part.rename(directory / "b.txt")
        batches.wait_for(directory / "b.txt")


def test_a_link_arrives_by_its_event(directory, tmp_path):
    (tmp_path / "target").write_text("text")

    with Batches(directory, NEVER_S) as batches:
        (directory / "a.txt").symlink_to(tmp_path / "target")
        batches.wait_for(directory / "a.txt")


def test_a_file_that_is_written_slowly_is_taken_once_and_whole(directory, monkeypatch):
    # A machine under load may not write again within the real time.
    monkeypatch.setattr(inbox_module, "WRITING_SETTLE_S", NEVER_S)
    path = directory / "a.txt"

    with Batches(directory, SOON_S) as batches:
        with path.open("w") as file:
            for _ in range(5):
                print("part", file=file, flush=True)
                batches.wait_for_look_at("a.txt")
            (directory / "other.txt").write_text("")
            batches.wait_for(directory / "other.txt")
            early = dict(batches.taken)
        batches.wait_for(path)

    assert set(early) == {"other.txt"}


def test_a_file_that_is_rewritten_arrives_again(directory):
    path = directory / "a.txt"
    path.write_text("old")

    with Batches(directory, NEVER_S) as batches:
        batches.wait_for(path)
        path.write_text("newer")
        batches.wait_for(path)


def test_a_file_that_goes_before_it_has_arrived_never_does(directory, monkeypatch):
    monkeypatch.setattr(inbox_module, "SETTLE_S", 0.3)  # as long as a test bears
    path = directory / "a.txt"
    path.touch()

    with Batches(directory, SOON_S) as batches:
        batches.wait_for_look_at("a.txt")
        path.unlink()
        (directory / "other.txt").touch()
        batches.wait_for(directory / "other.txt")
        inbox = batches.inbox

    assert set(batches.taken) <= {"other.txt"}
    assert "a.txt" not in inbox._looks


def test_without_events_scans_find_new_changed_and_moved_files(directory, scans_only):
    with Batches(directory, SOON_S, mounts=scans_only) as batches:
        assert batches.inbox._observer is None
        path = directory / "a.txt"
        path.write_text("old")
        batches.wait_for(path)
        path.write_text("newer")
        batches.wait_for(path)
        path.rename(directory / "b.txt")
        batches.wait_for(directory / "b.txt")


def test_without_events_a_growing_file_is_not_taken(directory, scans_only, monkeypatch):
    # A machine under load may not write again within the real time.
    monkeypatch.setattr(inbox_module, "REMOTE_S", 1.0)
    path = directory / "a.txt"
    path.touch()
    inbox = Inbox(directory, ".txt", everything, SOON_S, mounts=scans_only)

    with inbox:
        assert inbox._look() == []
        path.write_text("grown")
        assert inbox._look() == []


def test_a_scan_can_be_asked_for(directory, scans_only):
    with Batches(directory, NEVER_S, mounts=scans_only) as batches:
        (directory / "a.txt").write_text("text")
        batches.inbox.scan_now()
        batches.wait_for(directory / "a.txt")


def test_between_full_scans_quick_ones_find_what_is_new(directory, scans_only):
    with Batches(directory, SOON_S, mounts=scans_only) as batches:
        changed = directory / "changed.txt"
        changed.write_text("old")
        batches.wait_for(changed)
        with batches.inbox._wake:
            batches.inbox._next_full_scan = NEVER_S + time.monotonic()
        # When this has arrived, a full scan that was under way is over.
        (directory / "later.txt").touch()
        batches.wait_for(directory / "later.txt")
        changed.write_text("newer")
        new = directory / "new.txt"
        new.touch()
        batches.wait_for(new)
        assert batches.taken["changed.txt"] != signature_of(changed.stat())
        batches.inbox.scan_now()
        batches.wait_for(changed)


def test_a_full_scan_that_takes_long_does_not_put_off_quick_ones(
    directory, monkeypatch
):
    monkeypatch.setattr(inbox_module, "SCAN_CPU_SHARE", 1e-9)
    inbox = Inbox(directory, ".txt", everything, SOON_S)
    before = time.monotonic()

    inbox._scan_on()

    assert inbox._next_full_scan > before + NEVER_S
    assert inbox._next_scan < time.monotonic() + DEADLINE_S


def test_stop_ends_a_waiting_batch(directory):
    with Batches(directory, NEVER_S) as batches:
        batches.inbox.stop()
        batches._thread.join(DEADLINE_S)

        assert not batches._thread.is_alive()
        assert batches.inbox.batch() is None


def test_what_is_not_wanted_is_not_offered(directory):
    (directory / "a.txt").touch()
    (directory / "b.txt").touch()

    def wanted(arrivals):
        return [arrival for arrival in arrivals if arrival.name == "b.txt"]

    with Inbox(directory, ".txt", wanted, SOON_S) as inbox:
        assert names(inbox.batch(wait=False)) == ["b.txt"]


def test_a_directory_that_went_away_is_waited_for(directory):
    told = queue.SimpleQueue()

    def tell(trouble):
        told.put(trouble and str(trouble))

    with Batches(directory, SOON_S, on_trouble=tell) as batches:
        directory.rmdir()
        batches.inbox.scan_now()
        assert told.get(timeout=DEADLINE_S) == (
            f"Cannot read input directory {str(directory)!r}: No such file or directory"
        )
        directory.mkdir()
        path = directory / "a.txt"
        path.write_text("there again")
        assert told.get(timeout=DEADLINE_S) is None
        batches.wait_for(path)
        # Its events are told again.
        (directory / "link.txt").symlink_to(path)
        batches.wait_for(directory / "link.txt")


def test_a_directory_that_may_be_listed_but_not_entered_is_waited_for(as_nobody):
    told = []
    with as_nobody(0o444) as directory:

        def end(trouble):
            told.append(str(trouble))
            inbox.stop()

        inbox = Inbox(directory, ".txt", everything, SOON_S, on_trouble=end)
        assert inbox.batch(wait=False) is None
    assert told == [
        f"Cannot read input directory {str(directory)!r}: Permission denied"
    ]


def test_existing_files_are_unknown_while_the_directory_is_unreadable(directory):
    directory.rmdir()

    def make(trouble):
        return trouble and directory.mkdir()

    with Inbox(directory, ".txt", everything, SOON_S, on_trouble=make) as inbox:
        assert inbox.batch(wait=False) == []
        assert directory.is_dir()


def test_touching_files_that_are_done_is_not_remembered(directory, monkeypatch):
    monkeypatch.setattr(inbox_module, "WRITING_SETTLE_S", 0)
    inbox = Inbox(directory, ".txt", lambda _: [], SOON_S)

    with inbox:
        inbox._note("a.txt", closed=False)
        inbox.batch(wait=False)

    assert inbox._writing == {}


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("nfs4", True), ("lustre", True), ("fuse.sshfs", True), ("ext4", False)],
)
def test_the_file_system_of_the_nearest_mount_decides_about_events(
    directory,
    tmp_path,
    kind,
    remote,
):
    mounts = tmp_path / "mounts"
    point = str(directory).replace(" ", "\\040")
    mounts.write_text(
        f"server:/ / nfs rw 0 0\nx {point} {kind} rw 0 0\n"
        f"y {point}x nfs rw 0 0\nz {point}/deeper nfs rw 0 0\n",
    )

    with Inbox(directory, ".txt", everything, SOON_S, mounts=mounts) as inbox:
        assert (inbox._observer is None) is remote


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("rw,hard", 4),
        ("rw,acregmin=10,acregmax=600", 11),
        ("rw,nocto", 61),
        ("rw,nocto,acregmin=10,acregmax=600", 601),
        ("rw,actimeo=1,nocto", 2),
        ("rw,acregmin=long", 4),
    ],
)
def test_file_on_nfs_must_stay_the_same_for_longer_than_a_host_remembers(
    directory, tmp_path, options, seconds
):
    mounts = tmp_path / "mounts"
    point = str(directory).replace(" ", "\\040")
    mounts.write_text(f"server:/a {point} nfs4 {options} 0 0\n")
    (directory / "a.txt").touch()
    with Inbox(directory, ".txt", everything, NEVER_S, mounts=mounts) as inbox:
        inbox._scan_on()
        assert inbox._looks["a.txt"].settle_s == seconds


def test_without_a_list_of_mounts_events_are_tried(directory):
    nowhere = Path("/nowhere")

    with Inbox(directory, ".txt", everything, SOON_S, mounts=nowhere) as inbox:
        assert inbox._observer is not None


def test_links_that_lead_to_no_file_are_named_once(directory):
    said = []
    handler = logger.add(lambda message: said.append(message.record["message"]))
    (directory / "a.txt").touch()
    (directory / "loop.txt").symlink_to("loop.txt")
    (directory / "through.txt").symlink_to("a.txt/b.txt")
    (directory / "long.txt").symlink_to("x" * 300)
    (directory / "gone.txt").symlink_to("nowhere.txt")
    with Inbox(directory, ".txt", everything, SOON_S) as inbox:
        for _ in range(2):
            inbox.scan_now()
            assert names(inbox.batch(wait=False)) == ["a.txt"]
    logger.remove(handler)
    assert sorted(said) == [
        "Skipping long.txt: it is a link to a name that is too long",
        "Skipping loop.txt: it is a link that leads back to itself",
        "Skipping through.txt: it is a link through a file that is no directory",
    ]
