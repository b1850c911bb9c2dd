import os
from pathlib import Path

import pytest

from tigerflow.errors import NameRuleError
from tigerflow.naming import (
    TEMP_PREFIX,
    check_extension,
    check_task_name,
    error_name,
    is_input_name,
    is_result_name,
    output_name,
    printable,
    snakemake_problem,
    stem_of,
    temporary_name,
    temporary_owner,
    temporary_root,
)


@pytest.mark.parametrize("extension", [".txt", ".tar.gz", ".7z", ".a_b", ".TXT"])
def test_an_extension_of_dots_and_words_is_accepted(extension):
    assert check_extension(extension) == extension


@pytest.mark.parametrize(
    "extension", ["", ".", "..", ".a b", ".a-b", ".é", ".a\n", "./x"]
)
def test_an_extension_of_anything_else_is_refused(extension):
    with pytest.raises(NameRuleError) as error:
        check_extension(extension)

    assert str(error.value) == (
        f"Invalid file extension: {extension!r}; write a dot and letters, "
        "digits or underscores, such as '.txt'"
    )


def test_extension_without_a_dot_gets_a_suggestion():
    with pytest.raises(NameRuleError) as error:
        check_extension("txt")

    assert str(error.value) == "Invalid file extension: 'txt'; write '.txt'"


@pytest.mark.parametrize("extension", [".err", ".ERR", ".tar.Err"])
def test_the_extension_of_error_files_is_reserved(extension):
    with pytest.raises(NameRuleError) as error:
        check_extension(extension)

    assert str(error.value) == (
        f"Invalid file extension: {extension!r}; '.err' is kept for error files"
    )


@pytest.mark.parametrize("name", ["a", "Embed", "embed-2_x"])
def test_a_task_name_of_letters_digits_and_dashes_is_accepted(name):
    assert check_task_name(name) == name


@pytest.mark.parametrize("name", ["", "2nd", "-a", "_a", "a b", "é", "a/b", "a\n"])
def test_any_other_task_name_is_refused(name):
    with pytest.raises(NameRuleError) as error:
        check_task_name(name)

    assert str(error.value) == (
        f"Invalid task name: {name!r}; "
        "start with a letter, then letters, digits, '-' or '_'"
    )


def test_inputs_are_recognised_by_extension_and_case():
    assert is_input_name("a.txt", ".txt")
    assert is_input_name(".txt", ".txt")
    assert is_input_name(".hidden.txt", ".txt")
    assert not is_input_name("a.TXT", ".txt")
    assert not is_input_name("a.txt.part", ".txt")


def test_temporary_files_and_apple_companions_are_not_inputs():
    assert not is_input_name(temporary_name("a.txt"), ".txt")
    assert not is_input_name("._a.txt", ".txt")


@pytest.mark.parametrize(
    "name",
    [
        ".azDownload-5f3c-a.mp4",
        "~$a.mp4",
        "clip [x1].f137.mp4",
        "clip.f140-drc.mp4",
        "clip.f100050.mp4",
        "clip.fhls-1200.mp4",
        "clip.fdash-video_2.mp4",
        "clip.temp.mp4",
    ],
)
def test_unfinished_files_of_tools_are_not_inputs(name):
    assert not is_input_name(name, ".mp4")


@pytest.mark.parametrize("extension", [".avi", ".flac", ".mka", ".mp3", ".wav"])
def test_files_that_yt_dlp_converts_are_not_inputs_in_any_format(extension):
    assert not is_input_name(f"talk.temp{extension}", extension)


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        (".a.mp4", ".mp4"),
        ("a.final.mp4", ".mp4"),
        ("a.f0.mp4", ".mp4"),
        ("f137.mp4", ".mp4"),
        ("temp.mp4", ".mp4"),
        ("a~$b.mp4", ".mp4"),
        ("room.temp.csv", ".csv"),
        ("frame.f137.png", ".png"),
        ("clip.f137.mp4", ".f137.mp4"),
    ],
)
def test_names_that_only_look_like_unfinished_ones_are_inputs(name, extension):
    assert is_input_name(name, extension)


def test_results_may_have_the_names_of_unfinished_inputs():
    assert is_result_name("room.temp.mp4", ".mp4")
    assert not is_result_name(temporary_name("room.mp4"), ".mp4")


def test_the_stem_is_the_name_without_the_whole_extension_once():
    assert stem_of("a.b.tar.gz", ".tar.gz") == "a.b"
    assert stem_of("a.txt.txt", ".txt") == "a.txt"
    assert stem_of(".txt", ".txt") == ""


def test_outputs_and_errors_are_named_after_the_stem():
    assert output_name("a.b", ".out") == "a.b.out"
    assert error_name("a.b") == "a.b.err"


@pytest.mark.parametrize(
    ("target", "suffixes"),
    [("a.npy", [".npy"]), ("a.tar.gz", [".gz"]), (".out", [".out"]), ("Snakefile", [])],
)
def test_a_temporary_name_ends_in_the_last_suffix_of_its_target(target, suffixes):
    assert Path(temporary_name(target)).suffixes == suffixes


@pytest.mark.parametrize("extension", [".out", ".tar.gz", ".ome.tif", ".1.2.3"])
def test_the_suffixes_of_a_temporary_name_are_those_of_the_extension(extension):
    name = temporary_name("a.b" + extension, extension)

    assert name.startswith(TEMP_PREFIX)
    assert "".join(Path(name).suffixes) == extension


@pytest.mark.parametrize(
    "change", ["appended", "replaced", "removed", "prefixed", "none"]
)
def test_the_root_of_a_temporary_name_survives_a_change_of_the_name(change):
    name = Path(temporary_name("a.tar.gz", ".tar.gz"))
    changed = {
        "appended": name.with_name(f"{name}.npy"),
        "replaced": name.with_suffix(".srt"),
        "removed": name.with_suffix("").with_suffix(""),
        "prefixed": name.with_name(f"x_{name.name}"),
        "none": name,
    }

    assert temporary_root(changed[change].name) == name.name.removesuffix(".tar.gz")


def test_no_name_made_from_a_temporary_one_is_an_input_or_a_result():
    name = f"x_{temporary_name('a.txt', '.txt')}"

    assert not is_input_name(name, ".txt")
    assert not is_result_name(name, ".txt")


def test_other_names_have_no_temporary_root():
    assert temporary_root("a.txt") is None
    assert temporary_root(f"{TEMP_PREFIX}old.txt") is None


def test_temporary_names_differ_and_stay_short():
    names = {temporary_name("x" * 251 + ".out") for _ in range(100)}

    assert len(names) == 100
    assert max(map(len, names)) < 60


def test_a_temporary_name_tells_whose_it_is():
    assert temporary_owner(temporary_name("a.txt")) == (True, os.getpid())
    assert temporary_owner(f"{TEMP_PREFIX}ffffffff-12-0123456789ab.txt") == (False, 12)


@pytest.mark.parametrize("name", ["a.txt", f"{TEMP_PREFIX}old.txt", TEMP_PREFIX])
def test_a_name_of_another_make_has_no_known_owner(name):
    assert temporary_owner(name) is None


@pytest.mark.parametrize(
    ("stem", "problem"),
    [
        ("a b'c\"$(x)é%", None),
        ("{}", None),
        ("a\nb", "its name has a line break in it"),
        ("\udcff", "its name is not valid UTF-8"),
        ("{x}", "Snakemake reads the {...} in its name as a wildcard"),
        ("<x>", "Snakemake reads the <...> in its name as a path variable"),
        ("a" * 30, "Snakemake refuses names that end in 20 or more repetitions"),
    ],
)
def test_stem_that_snakemake_cannot_handle_is_reported_with_the_reason(stem, problem):
    assert snakemake_problem(stem) == problem


def test_a_name_is_logged_as_it_is_unless_it_would_break_the_line():
    assert printable("é {x} <b> %s.txt") == "é {x} <b> %s.txt"
    assert printable("a\nb.txt") == "'a\\nb.txt'"
    assert printable("\udcff.txt") == "'\\udcff.txt'"
