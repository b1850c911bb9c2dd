import errno
import os
from pathlib import Path

import pytest

from tigerflow.rundir.signatures import signature_of
from tigerflow.service.removal import InputRemoval


@pytest.fixture
def inputs(tmp_path):
    directory = tmp_path / "in"
    directory.mkdir()
    return directory


@pytest.fixture
def removal(inputs, tmp_path):
    return InputRemoval(inputs, tmp_path / "out")


def make(path, text):
    """Move a new file in place; return its signature."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)
    return signature_of(path.stat())


def test_file_of_the_signature_is_removed_alone(inputs, removal):
    signature = make(inputs / "a", "first")
    make(inputs / "b", "other")
    removal.remove("a", signature)
    assert [path.name for path in inputs.iterdir()] == ["b"]


def test_other_version_stays(inputs, removal):
    signature = make(inputs / "a", "first")
    make(inputs / "a", "second")
    removal.remove("a", signature)
    assert [path.read_text() for path in inputs.iterdir()] == ["second"]


def test_removed_file_is_not_an_error(inputs, removal):
    signature = make(inputs / "a", "first")
    (inputs / "a").unlink()
    removal.remove("a", signature)
    assert list(inputs.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_version_that_comes_after_the_look_is_put_back(
    inputs, removal, monkeypatch, links
):
    signature = make(inputs / "a", "first")
    real = Path.mkdir

    def come_between(path, *words, **how):
        monkeypatch.setattr(Path, "mkdir", real)
        make(inputs / "a", "second")
        real(path, *words, **how)

    # Between the look and the removal there is nothing else to be met.
    monkeypatch.setattr(Path, "mkdir", come_between)
    if not links:

        def refuse(*_words, **_how):
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    removal.remove("a", signature)
    assert [path.read_text() for path in inputs.iterdir()] == ["second"]


@pytest.mark.parametrize("target", ["../there", "absolute"])
def test_link_is_removed_and_its_target_stays(inputs, removal, tmp_path, target):
    there = tmp_path / "there"
    there.write_text("content")
    (inputs / "a").symlink_to(there if target == "absolute" else target)
    removal.remove("a", signature_of((inputs / "a").stat()))
    assert list(inputs.iterdir()) == []
    assert there.read_text() == "content"


@pytest.fixture
def killed(inputs, tmp_path):
    """An input whose removal was cut short."""
    signature = make(inputs / "a", "first")
    if not (child := os.fork()):
        # Dies where it would remove the file.
        Path.unlink = lambda *_: os._exit(0)
        InputRemoval(inputs, tmp_path / "out").remove("a", signature)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert not (inputs / "a").exists()
    return inputs / "a"


def test_next_start_puts_back_what_a_crash_has_left(killed, removal):
    removal.recover()
    assert list(killed.parent.iterdir()) == [killed]
    assert killed.read_text() == "first"


def test_next_start_leaves_a_later_version_in_its_place(killed, removal):
    make(killed, "second")
    removal.recover()
    assert list(killed.parent.iterdir()) == [killed]
    assert killed.read_text() == "second"


def test_run_in_another_directory_leaves_it_alone(killed, tmp_path):
    InputRemoval(killed.parent, tmp_path / "other").recover()
    assert not killed.exists()
