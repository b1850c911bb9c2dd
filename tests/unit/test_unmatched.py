"""Why a directory has no inputs."""

import pytest

from tigerflow import unmatched as module
from tigerflow.unmatched import unmatched


@pytest.fixture
def told(tmp_path):
    """Return what is said of a directory with these files."""

    def tell(*names, extension=".png"):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        sentence = unmatched(tmp_path, extension)
        start = f"No file in '{tmp_path}' is a {extension} input: "
        assert sentence is None or sentence.startswith(start)
        return sentence and sentence.removeprefix(start)

    return tell


def test_empty_or_missing_directory_is_not_reported(tmp_path, told):
    assert told() is None
    assert unmatched(tmp_path / "gone", ".png") is None


def test_directory_with_an_input_is_not_reported(told):
    assert told("a.PNG", "b.txt", "c.png", "sub/d.png") is None


def test_extension_of_another_case_is_named(told):
    assert told("b.PNG", "a.PNG", "c.txt") == (
        "2 end in .PNG (such as 'a.PNG'); 1 end in .txt (such as 'c.txt'); "
        "did you mean '.PNG'?"
    )


@pytest.mark.parametrize(
    ("name", "extension", "ending"),
    [
        ("a.tiff", ".tif", ".tiff"),
        ("a.b.jpeg", ".jpg", ".jpeg"),
        ("a.NII.gz", ".nii.gz", ".NII.gz"),
    ],
)
def test_extension_that_is_nearly_the_same_is_named(told, name, extension, ending):
    assert told(name, extension=extension) == (
        f"1 end in {ending} (such as '{name}'); did you mean {ending!r}?"
    )


def test_files_below_are_counted_but_those_of_hidden_directories(told):
    assert told("sub/deep/a.png", "sub/b.txt", ".hidden/c.png") == (
        "1 in subdirectories, which are not searched (such as 'sub/deep/a.png')"
    )


def test_unfinished_files_and_files_without_extension_are_counted_apart(told):
    assert told("~$a.png", "README") == (
        "1 have no extension (such as 'README'); "
        "1 have the names of unfinished files (such as '~$a.png')"
    )


def test_only_the_most_frequent_kinds_are_named(told):
    names = [f"{n}.{kind}" for kind in "vwxyz" for n in range(ord(kind))]
    sentence = told(*names)
    assert sentence.count("end in") == module.KINDS_NAMED
    assert f"; {ord('v') + ord('w')} have other endings" in sentence


def test_search_below_ends(told, monkeypatch):
    monkeypatch.setattr(module, "MOST_BELOW", 3)
    assert "3 in subdirectories" in told(*(f"sub/{n}.png" for n in range(9)))


def test_search_below_ends_in_the_directory_that_has_too_many(told, monkeypatch):
    monkeypatch.setattr(module, "MOST_BELOW", 3)
    names = [f"{place}/{n}.png" for place in ("a", "b", "c") for n in range(9)]
    assert "3 in subdirectories" in told(*names)
