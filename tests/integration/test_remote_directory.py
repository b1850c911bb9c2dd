"""Mounts of one directory on two hosts show what nfs(5) says, not more."""

import errno
import os
import subprocess
from contextlib import ExitStack

import pytest
from remote import remote_directory
from runs import wait_until


@pytest.fixture
def hosts(tmp_path):
    """Two mounts of one directory, which remember things for longer than a test."""
    there = tmp_path / "there"
    there.mkdir()
    with ExitStack() as stack:
        points = [tmp_path / "one", tmp_path / "two"]
        mounts = []
        for point in points:
            point.mkdir()
            mounted = remote_directory(there, point, cache_s=3600)
            mounts.append(stack.enter_context(mounted))
        yield points, mounts


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_absence_is_remembered_until_the_directory_is_opened(hosts):
    (one, two), _ = hosts
    assert not (two / "a").exists()
    (one / "a").write_text("a")
    assert (one / "a").exists()
    assert not (two / "a").exists()
    assert names(two) == ["a"]
    assert (two / "a").exists()


def test_attributes_are_remembered_until_the_file_is_opened(hosts):
    (one, two), _ = hosts
    (one / "a").write_text("a")
    assert (two / "a").stat().st_size == 1
    with (one / "a").open("a") as file:
        file.write("b")
    assert (two / "a").stat().st_size == 1
    assert names(two) == ["a"]
    assert (two / "a").stat().st_size == 1
    assert (two / "a").read_text() == "ab"
    assert (two / "a").stat().st_size == 2


def test_entry_is_remembered_until_the_file_is_opened(hosts):
    (one, two), _ = hosts
    (one / "a").write_text("old")
    (one / "b").write_text("b")
    before = (two / "a").stat(), (two / "b").stat()
    (one / "new").write_text("brand new")
    (one / "new").rename(one / "a")
    (one / "b").unlink()
    assert ((two / "a").stat(), (two / "b").stat()) == before
    assert (two / "a").read_text() == "brand new"
    assert (two / "a").stat().st_ino == (one / "a").stat().st_ino
    with pytest.raises(FileNotFoundError):
        (two / "b").read_text()


def test_directory_that_takes_the_place_of_another_is_found(hosts):
    (one, two), _ = hosts
    (one / "x").mkdir()
    assert names(two / "x") == []
    (one / "x").rmdir()
    (one / "x").mkdir()
    (one / "x" / "a").write_text("a")
    assert (two / "x" / "a").read_text() == "a"
    assert names(two / "x") == ["a"]


def test_host_knows_what_it_has_changed(hosts):
    (one, _), _ = hosts
    place = one / "x" / "y"
    assert not place.exists()
    place.mkdir(parents=True)
    file = place / "a"
    with file.open("x") as out, file.open("a") as more:
        more.write("more")
        more.flush()
        assert file.stat().st_size == 4
        out.truncate(2)
    assert file.read_text() == "mo"
    os.utime(file, ns=(5, 10**18 + 7))
    file.chmod(0o640)
    status = file.stat()
    assert (status.st_mtime_ns, status.st_mode) == (10**18 + 7, 0o100640)
    file.rename(one / "b")
    assert not file.exists()
    os.link(one / "b", one / "c")
    (one / "d").symlink_to("c")
    assert (one / "d").read_text() == "mo"
    assert (one / "c").stat().st_nlink == 2
    (one / "b").unlink()
    assert names(one) == ["c", "d", "x"]
    with pytest.raises(FileExistsError):
        os.open(one / "c", os.O_CREAT | os.O_EXCL)


def test_outage_is_as_long_as_it_is_said_to_be(hosts):
    (one, two), mounts = hosts
    (one / "a").write_text("a")
    mounts[1].fail(errno.ESTALE)
    with pytest.raises(OSError, match="Stale") as raised:
        (two / "a").read_text()
    assert raised.value.errno == errno.ESTALE
    assert (one / "a").read_text() == "a"
    mounts[1].heal()
    mounts[1].hang()
    reading = subprocess.Popen(["cat", two / "a"], stdout=subprocess.PIPE)
    (one / "a").write_text("later")
    assert reading.poll() is None
    mounts[1].heal()
    wait_until(lambda: reading.poll() is not None)
    assert reading.communicate()[0] == b"later"
