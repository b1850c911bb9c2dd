"""Reading YAML with lines, texts and plain-sense values."""

import pytest

from tigerflow.errors import PipelineError
from tigerflow.pipeline.document import MAX_VALUES, read_document


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "p.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_document(path)

    return read_text


@pytest.fixture
def problem(read, tmp_path):
    def problem_of(text):
        with pytest.raises(PipelineError) as caught:
            read(text)
        return str(caught.value).replace(str(tmp_path / "p.yaml"), "p.yaml")

    return problem_of


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("12:00:00", "12:00:00"),
        ("no", "no"),
        ("On", "On"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("0123", 123),
        ("0x1F", 31),
        ("0o17", 15),
        ("-5", -5),
        ("1.10", 1.1),
        ("1e-07", 1e-07),
        ("-.inf", float("-inf")),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2024-02-29", "2024-02-29"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("'5'", "5"),
        ('"\\u00fc"', "ü"),
        ("16G", "16G"),
    ],
)
def test_scalar_has_the_value_that_people_expect(read, written, expected):
    assert read(f"key: {written}\n").data == {"key": expected}


def test_text_of_a_number_is_as_written(read):
    document = read("version: 1.10\nports: [080, 1e3, x]\nnothing:\n")

    assert document.text(("version",)) == "1.10"
    assert document.text(("ports",)) == ["080", "1e3", "x"]
    assert document.text(("nothing",)) is None


def test_text_of_a_number_that_only_yaml_writes_so_is_its_value(read):
    document = read("- 0x10\n- 0o17\n- -.inf\n- .NaN\n- '0x10'\n")

    assert document.text(()) == ["16", "15", "-inf", "nan", "0x10"]


def test_lines_are_those_of_keys_and_items(read):
    document = read("# note\ntasks:\n- name: a\n  kind: local\n-\n  name: b\n")

    assert document.line(("tasks",)) == 2
    assert document.line(("tasks", 0)) == 3
    assert document.line(("tasks", 0, "kind")) == 4
    assert document.line(("tasks", 1, "name")) == 6


def test_line_of_a_missing_part_is_that_of_its_container(read):
    document = read("a:\n  b:\n    c: 1\n")

    assert document.line(("a", "b", "missing", 3)) == 2
    assert document.line(("missing",)) == 1


def test_merge_keys_and_anchors_are_followed(read):
    document = read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")

    assert document.data == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2},
    }
    assert document.mistakes == []
    assert document.line(("c",)) == 5


def test_merged_mapping_that_is_used_again_has_no_key_twice(read):
    document = read("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: *b\n")

    assert document.data["c"] == {"x": 2}
    assert document.mistakes == []


def test_key_given_twice_is_a_mistake(read):
    document = read("a: 1\nb: {c: 1, c: 2}\na: 3\n")

    assert document.mistakes == [
        (("b", "c"), "is given twice"),
        (("a",), "is given twice"),
    ]


def test_windows_line_ends_and_byte_order_marks_are_accepted(read):
    assert read("\ufeffa: 1\r\nb: x\r\n".encode()).data == {"a": 1, "b": "x"}


def test_empty_file_has_no_data(read):
    assert read("").data is None
    assert read("# only a comment\n").data is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a:\n\tb: 1\n",
            (
                "p.yaml:2: found character '\\t' that cannot start any token"
                "; indent with spaces"
            ),
        ),
        (
            "a: [1\nb: 2\n",
            "p.yaml:2: expected ',' or ']', but got ':'",
        ),
        ("a: b: c\n", "p.yaml:1: mapping values are not allowed here"),
        ("a: *b\n", "p.yaml:1: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "p.yaml:2: but found another document"),
        (
            "? [a, b]\n: 1\n",
            "p.yaml:1: a key must be text, not a list or a mapping",
        ),
        ("\na: !!int x\n", "p.yaml:2: 'x' is not a valid number"),
        (
            f"a: {'9' * 5000}\n",
            f"p.yaml:1: '{'9' * 20}' is not a valid number",
        ),
        ("a: &a [*a]\n", "p.yaml: nested too deeply"),
        ("a: " + "[" * 5000 + "\n", "p.yaml: nested too deeply"),
        (b"\xff\xfea\0", "p.yaml: not a text file (invalid start byte)"),
        (
            b"a: \0\n",
            "p.yaml: unacceptable character #x0000: special characters are not allowed",
        ),
    ],
)
def test_invalid_yaml_is_one_sentence_with_its_line(problem, text, expected):
    assert problem(text) == expected


def test_aliases_that_stand_for_billions_of_values_are_refused(problem):
    ten = [", ".join([f"*a{i}"] * 10) for i in range(9)]
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{aliases}]" for i, aliases in enumerate(ten, start=1)]

    message = problem("\n".join(lines))

    assert message == f"p.yaml:1: more than {MAX_VALUES} values, aliases included"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError) as caught:
        read_document(tmp_path / "no.yaml")

    assert str(caught.value) == f"{tmp_path / 'no.yaml'}: No such file or directory"


def test_directory_instead_of_a_file_is_named(tmp_path):
    with pytest.raises(PipelineError) as caught:
        read_document(tmp_path)

    assert str(caught.value) == f"{tmp_path}: Is a directory"
